// Where this process stands in the cgroup hierarchies, version 1 and 2.
//
//   for (const auto& level : cgroup_levels("memory")) read(level.folder / (level.version == 2 ? "memory.max" : "memory.limit_in_bytes"));
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

namespace sluice {

struct CgroupLevel {
  int version = 2;
  std::filesystem::path folder;
};

// The process's own group and all above it as far as they can be seen, the lowest first. `controller` is a word of version 1
// ("memory", "cpu"); version 2 has one hierarchy for all. `root` stands for / in tests.
[[nodiscard]] std::vector<CgroupLevel> cgroup_levels(std::string_view controller, const std::filesystem::path& root = "/");

}  // namespace sluice
