// A memory cgroup with a limit, of version 1 or 2, for a child process to live in. Needs the right to make one: a test that
// cannot have it throws, and so fails.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>

#include <unistd.h>

namespace sluice::testing {

class MemoryCgroup {
 public:
  explicit MemoryCgroup(std::uint64_t limit) {
    namespace fs = std::filesystem;
    const fs::path v1 = "/sys/fs/cgroup/memory", v2 = "/sys/fs/cgroup";
    const bool first = fs::exists(v1 / "memory.limit_in_bytes");
    const fs::path parent = first ? v1 / own_path("memory") : v2 / own_path("");
    static int count = 0;
    folder_ = (first || fs::exists(parent / "cgroup.procs") ? parent : v2) / ("sluice_test_" + std::to_string(::getpid()) + "_" + std::to_string(++count));
    if (!first) put((folder_.parent_path()) / "cgroup.subtree_control", "+memory", false);
    std::error_code error;
    fs::create_directory(folder_, error);
    if (error) throw std::runtime_error("no memory cgroup can be made at " + folder_.string() + ": " + error.message());
    put(folder_ / (first ? "memory.limit_in_bytes" : "memory.max"), std::to_string(limit), true);
    put(folder_ / (first ? "memory.swappiness" : "memory.swap.max"), "0", false);
  }
  ~MemoryCgroup() {
    for (int i = 0; i < 200 && ::rmdir(folder_.c_str()) != 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  MemoryCgroup(const MemoryCgroup&) = delete;
  MemoryCgroup& operator=(const MemoryCgroup&) = delete;

  // The file that a process writes its number into to move in.
  [[nodiscard]] std::string procs() const { return (folder_ / "cgroup.procs").string(); }

 private:
  // Where this process is, so that a container that sees only its own part may make a child of it.
  static std::string own_path(const std::string& controller) {
    std::ifstream file("/proc/self/cgroup");
    for (std::string line; std::getline(file, line);) {
      const auto first = line.find(':'), second = line.find(':', first + 1);
      if (line.substr(first + 1, second - first - 1) == controller) {
        const auto path = line.substr(second + 2);
        const auto root = controller.empty() ? std::filesystem::path("/sys/fs/cgroup") : std::filesystem::path("/sys/fs/cgroup") / controller;
        return std::filesystem::exists(root / path) ? path : "";
      }
    }
    return "";
  }
  static void put(const std::filesystem::path& file, const std::string& text, bool needed) {
    std::ofstream out(file);
    out << text;
    out.flush();
    if (!out && needed) throw std::runtime_error("cannot write " + text + " to " + file.string());
  }

  std::filesystem::path folder_;
};

}  // namespace sluice::testing
