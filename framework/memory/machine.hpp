// What the machine has: processors, memory and who holds it, disk. Read for `sluice doctor`; nothing here is changed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace sluice {

struct Processor {
  std::string model;
  int cores = 0;                   // that this process may run on (affinity)
  std::optional<double> quota{};   // processors' worth of time that the tightest cgroup gives; nothing: no limit
  std::vector<std::string> flags;  // as /proc/cpuinfo has them
  [[nodiscard]] bool has(const std::string& flag) const;
  // Threads that can really run at once: the lesser of cores and quota, at least 1.
  [[nodiscard]] int usable() const;
};
// `root` stands for / in tests, but for the affinity, which is this process's own.
[[nodiscard]] Processor read_processor(const std::filesystem::path& root = "/");

struct MachineMemory {
  std::uint64_t total = 0, available = 0;  // bytes
  std::uint64_t swap_total = 0, swap_free = 0;
};
[[nodiscard]] MachineMemory read_memory(const std::filesystem::path& root = "/");

struct ProcessMemory {
  std::int64_t pid = 0;
  std::string name;           // as the kernel knows it, at most 15 bytes; whatever its owner chose
  std::uint64_t resident = 0;  // bytes, pages shared with others included
};
// The `most` processes that hold the most memory, largest first, without this one. What cannot be read is left out.
[[nodiscard]] std::vector<ProcessMemory> largest_processes(std::size_t most, const std::filesystem::path& root = "/");

// As ProcessMemory has it; empty where it cannot be read.
[[nodiscard]] std::string process_name(std::int64_t pid, const std::filesystem::path& root = "/");

struct DiskSpace {
  std::filesystem::path folder;  // the nearest one that exists
  std::uint64_t free = 0;        // bytes that this user may write
  bool writable = false;
};
// Of the file system where `folder` is or would be made.
[[nodiscard]] DiskSpace disk_space(const std::filesystem::path& folder);

}  // namespace sluice
