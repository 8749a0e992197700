// Reads /proc/self/mountinfo and /proc/self/cgroup, proc(5).
#include "framework/memory/cgroup.hpp"

#include <algorithm>
#include <optional>
#include <string>

#include "framework/base/strings.hpp"
#include "framework/memory/proc_files.hpp"

namespace sluice {
namespace fs = std::filesystem;
namespace {

struct Mount {
  std::string root;   // what part of the hierarchy is mounted
  fs::path point;
  int version;
};

// "36 35 98:0 /root /mount/point options - type source superoptions".
std::vector<Mount> mounts_of(std::string_view controller, const fs::path& root) {
  std::vector<Mount> mounts;
  const auto text = contents_of(root / "proc/self/mountinfo");
  if (!text) return mounts;
  for (const auto& line : split(*text, '\n')) {
    const auto separator = line.find(" - ");
    if (separator == std::string::npos) continue;
    const auto before = split(std::string_view(line).substr(0, separator), ' ');
    const auto after = split(std::string_view(line).substr(separator + 3), ' ');
    if (before.size() < 5 || after.size() < 3) continue;
    const auto options = split(after[2], ',');
    const bool second = after[0] == "cgroup2";
    if (second || (after[0] == "cgroup" && std::find(options.begin(), options.end(), controller) != options.end()))
      mounts.push_back({before[3], root / fs::path(before[4]).relative_path(), second ? 2 : 1});
  }
  return mounts;
}

// This process's place in the hierarchy: "4:memory:/a/b" for version 1, "0::/a/b" for version 2.
std::optional<std::string> place_in(std::string_view controller, const fs::path& root, int version) {
  const auto text = contents_of(root / "proc/self/cgroup");
  if (!text) return std::nullopt;
  for (const auto& line : split(*text, '\n')) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const auto controllers = split(std::string_view(line).substr(first + 1, second - first - 1), ',');
    const bool mine = version == 2 ? line.substr(0, first) == "0" : std::find(controllers.begin(), controllers.end(), controller) != controllers.end();
    if (mine) return line.substr(second + 1);
  }
  return std::nullopt;
}

}  // namespace

std::vector<CgroupLevel> cgroup_levels(std::string_view controller, const fs::path& root) {
  std::vector<CgroupLevel> levels;
  for (const auto& mount : mounts_of(controller, root)) {
    const auto mine = place_in(controller, root, mount.version);
    if (!mine) continue;
    // In a container the mount may show only the part below `root`, or know nothing of the path that /proc gives.
    std::string below = *mine;
    if (mount.root != "/" && below.compare(0, mount.root.size(), mount.root) == 0) below.erase(0, mount.root.size());
    fs::path folder = (mount.point / fs::path(below).relative_path()).lexically_normal();
    std::error_code ignored;
    if (!fs::is_directory(folder, ignored)) folder = mount.point;
    if (!folder.has_filename()) folder = folder.parent_path();
    for (;;) {
      levels.push_back({mount.version, folder});
      if (folder == mount.point || !folder.has_relative_path() || folder.native().size() <= mount.point.native().size()) break;
      folder = folder.parent_path();
    }
  }
  return levels;
}

}  // namespace sluice
