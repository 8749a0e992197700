// A folder in which `sluice` is run, with a cache of its own.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/support/scratch_folder.hpp"
#include "tests/support/sluice_process.hpp"

namespace sluice::testing {

// One word for the shell.
inline std::string quoted(const std::filesystem::path& path) {
  std::string out = "'";
  for (const char c : path.string()) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

class Desk {
 public:
  explicit Desk(const std::string& name = "desk") : folder_(scratch_.path() / name) {
    std::filesystem::create_directories(folder_);
    setenv("XDG_CACHE_HOME", (scratch_.path() / "cache").c_str(), 1);
  }
  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
  Finished operator()(std::vector<std::string> arguments, double timeout = 60) const { return run_sluice(std::move(arguments), folder_, timeout); }
  // By the shell, for redirections; "sluice" is the first word of `rest`'s command.
  [[nodiscard]] int shell(const std::string& rest) const {
    const int status = std::system(("cd '" + folder_.string() + "' && '" + SLUICE_BINARY_DIR + "/bin/sluice' " + rest).c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  void write(const std::string& name, const std::string& text) const { std::ofstream(folder_ / name, std::ios::binary) << text; }
  [[nodiscard]] std::string read(const std::string& name) const { return text_of_file(folder_ / name); }

 private:
  ScratchFolder scratch_;
  std::filesystem::path folder_;
};

inline bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// Data without files: enough for everything that looks at data.
inline const std::string data_pipeline = std::string("[plugins]\npath = [\"") + SLUICE_BINARY_DIR + "/tests/plugins\"]\n" + R"([budget]
host_ram = "256MiB"
[data]
plugin = "source.synthetic"
train = 20
val = 6
[[stage]]
plugin = "synthetic.clip"
frames = 4
[[stage]]
plugin = "augment.hflip"
only = "train"
[batch]
size = 8
)";

}  // namespace sluice::testing
