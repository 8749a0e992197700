// Where the plugins of the tests are, and folders to put copies of them into.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <sys/stat.h>
#include <unistd.h>

namespace sluice::testing {

namespace fs = std::filesystem;

inline fs::path fixture(const std::string& name) { return fs::path(SLUICE_BINARY_DIR) / "tests/plugin_fixtures" / name / (name + ".so"); }

inline std::vector<char> bytes_of_file(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// A folder of plugins that goes away with the test.
class PluginFolder {
 public:
  PluginFolder() : path_(fs::temp_directory_path() / ("sluice_plugin_" + std::to_string(::getpid()) + "_" + std::to_string(++count()))) {
    fs::remove_all(path_);
    fs::create_directories(path_);
    ::chmod(path_.c_str(), 0755);
  }
  ~PluginFolder() { fs::remove_all(path_); }
  PluginFolder(const PluginFolder&) = delete;
  PluginFolder& operator=(const PluginFolder&) = delete;

  [[nodiscard]] const fs::path& path() const { return path_; }
  fs::path add(const std::string& name, const std::string& as = {}) const {
    const fs::path to = path_ / (as.empty() ? name + ".so" : as);
    fs::copy_file(fixture(name), to, fs::copy_options::overwrite_existing);
    ::chmod(to.c_str(), 0644);
    return to;
  }
  fs::path write(const std::string& name, const std::vector<char>& bytes) const {
    std::ofstream(path_ / name, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    ::chmod((path_ / name).c_str(), 0644);
    return path_ / name;
  }

 private:
  static int& count() {
    static int n = 0;
    return n;
  }
  fs::path path_;
};

// Says whether a plugin with a mark has run since it was made.
class Mark {
 public:
  explicit Mark(const PluginFolder& folder) : file_(folder.path() / "mark") { ::setenv("SLUICE_TEST_MARK", file_.c_str(), 1); }
  ~Mark() { ::unsetenv("SLUICE_TEST_MARK"); }
  Mark(const Mark&) = delete;
  Mark& operator=(const Mark&) = delete;
  [[nodiscard]] bool left() const { return fs::exists(file_); }

 private:
  fs::path file_;
};

}  // namespace sluice::testing
