// Reads /proc and the cgroup file systems.
#include "framework/memory/process.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <malloc.h>
#include <unistd.h>

#include <sluice/error.hpp>

#include "framework/base/strings.hpp"

namespace sluice {
namespace fs = std::filesystem;
namespace {

constexpr std::uint64_t unlimited = std::uint64_t{1} << 60;  // version 1 writes a number near 2^63 where there is no limit

std::optional<std::string> contents(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return std::nullopt;
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

std::optional<std::uint64_t> number(std::string_view text) {
  text = trim(text);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data()) return std::nullopt;
  return value;
}

std::optional<std::uint64_t> number_in(const fs::path& file) {
  const auto text = contents(file);
  return text ? number(*text) : std::nullopt;
}

// The value behind "key" in lines such as "VmHWM:   1234 kB" and "inactive_file 5678".
std::optional<std::uint64_t> field(const fs::path& file, std::string_view key) {
  const auto text = contents(file);
  if (!text) return std::nullopt;
  for (const auto& line : split(*text, '\n'))
    if (line.size() > key.size() && line.compare(0, key.size(), key) == 0) return number(std::string_view(line).substr(key.size()));
  return std::nullopt;
}

struct Mount {
  std::string root;   // what part of the hierarchy is mounted
  fs::path point;
  int version;
};

// proc(5): "36 35 98:0 /root /mount/point options - type source superoptions".
std::vector<Mount> cgroup_mounts(const fs::path& root) {
  std::vector<Mount> mounts;
  const auto text = contents(root / "proc/self/mountinfo");
  if (!text) return mounts;
  for (const auto& line : split(*text, '\n')) {
    const auto separator = line.find(" - ");
    if (separator == std::string::npos) continue;
    const auto before = split(std::string_view(line).substr(0, separator), ' ');
    const auto after = split(std::string_view(line).substr(separator + 3), ' ');
    if (before.size() < 5 || after.size() < 3) continue;
    const auto options = split(after[2], ',');
    const bool second = after[0] == "cgroup2";
    if (second || (after[0] == "cgroup" && std::find(options.begin(), options.end(), "memory") != options.end()))
      mounts.push_back({before[3], root / fs::path(before[4]).relative_path(), second ? 2 : 1});
  }
  return mounts;
}

// This process's place in the hierarchy: "4:memory:/a/b" for version 1, "0::/a/b" for version 2.
std::optional<std::string> place(const fs::path& root, int version) {
  const auto text = contents(root / "proc/self/cgroup");
  if (!text) return std::nullopt;
  for (const auto& line : split(*text, '\n')) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const auto controllers = split(std::string_view(line).substr(first + 1, second - first - 1), ',');
    const bool mine = version == 2 ? line.substr(0, first) == "0" : std::find(controllers.begin(), controllers.end(), "memory") != controllers.end();
    if (mine) return line.substr(second + 1);
  }
  return std::nullopt;
}

std::optional<CgroupMemory> read_level(const fs::path& folder, int version) {
  const auto limit = number_in(folder / (version == 2 ? "memory.max" : "memory.limit_in_bytes"));
  if (!limit || *limit >= unlimited) return std::nullopt;  // version 2 writes "max"
  CgroupMemory level{version, folder, *limit, 0, 0};
  level.used = number_in(folder / (version == 2 ? "memory.current" : "memory.usage_in_bytes")).value_or(0);
  level.reclaimable = field(folder / "memory.stat", version == 2 ? "inactive_file " : "total_inactive_file ").value_or(0);
  return level;
}

}  // namespace

std::uint64_t resident_bytes() {
  const auto text = contents("/proc/self/statm");
  const auto at = text ? text->find(' ') : std::string::npos;
  const auto pages = at == std::string::npos ? std::nullopt : number(std::string_view(*text).substr(at + 1));
  if (!pages) throw Error(Code::io, "the resident size of the process cannot be read", "mount /proc", "/proc/self/statm");
  return *pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

std::uint64_t peak_resident_bytes() {
  const auto kibibytes = field("/proc/self/status", "VmHWM:");
  if (!kibibytes) throw Error(Code::io, "the peak of the resident size cannot be read", "mount /proc", "/proc/self/status");
  return *kibibytes * 1024;
}

bool reset_peak_resident() {
  std::ofstream out("/proc/self/clear_refs");
  out << '5';
  out.close();
  return !out.fail();
}

int thread_count() { return static_cast<int>(field("/proc/self/status", "Threads:").value_or(0)); }

std::optional<CgroupMemory> memory_cgroup(const fs::path& root) {
  std::optional<CgroupMemory> tightest;
  for (const auto& mount : cgroup_mounts(root)) {
    const auto mine = place(root, mount.version);
    if (!mine) continue;
    // In a container the mount may show only the part below `root`, or know nothing of the path that /proc gives.
    std::string below = *mine;
    if (mount.root != "/" && below.compare(0, mount.root.size(), mount.root) == 0) below.erase(0, mount.root.size());
    fs::path folder = (mount.point / fs::path(below).relative_path()).lexically_normal();
    std::error_code ignored;
    if (!fs::is_directory(folder, ignored)) folder = mount.point;
    if (!folder.has_filename()) folder = folder.parent_path();
    for (;;) {
      const auto level = read_level(folder, mount.version);
      if (level && (!tightest || level->limit < tightest->limit)) tightest = level;
      if (folder == mount.point || !folder.has_relative_path() || folder.native().size() <= mount.point.native().size()) break;
      folder = folder.parent_path();
    }
  }
  return tightest;
}

std::uint64_t free_memory(const fs::path& root) {
  auto least = field(root / "proc/meminfo", "MemAvailable:").value_or(0) * 1024;
  if (const auto group = memory_cgroup(root)) {
    const auto held = group->used - std::min(group->used, group->reclaimable);
    least = std::min(least, group->limit - std::min(group->limit, held));
  }
  return least;
}

void pin_malloc() {
  mallopt(M_MMAP_THRESHOLD, 128 * 1024);
  mallopt(M_TRIM_THRESHOLD, 256 * 1024);
  mallopt(M_ARENA_MAX, 2);
}

}  // namespace sluice
