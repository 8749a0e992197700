// Reads /proc, the cpu controller of the cgroups and statvfs.
#include "framework/memory/machine.hpp"

#include <algorithm>

#include <sched.h>
#include <unistd.h>

#include "framework/base/strings.hpp"
#include "framework/memory/cgroup.hpp"
#include "framework/memory/proc_files.hpp"

namespace sluice {
namespace fs = std::filesystem;
namespace {

// "model name\t: Some CPU"
std::string cpuinfo_value(const std::string& text, std::string_view key) {
  for (const auto& line : split(text, '\n')) {
    const auto colon = line.find(':');
    if (colon != std::string::npos && trim(std::string_view(line).substr(0, colon)) == key) return std::string(trim(std::string_view(line).substr(colon + 1)));
  }
  return {};
}

int cores_of_affinity() {
  // Machines with more processors than a cpu_set_t holds want a larger one.
  for (int most = CPU_SETSIZE; most <= 1 << 16; most *= 2) {
    cpu_set_t* set = CPU_ALLOC(static_cast<std::size_t>(most));
    const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(most));
    const int count = set != nullptr && sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;
  }
  return std::max(1, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
}

std::optional<double> quota_of(const CgroupLevel& level) {
  std::optional<std::uint64_t> quota, period;
  if (level.version == 2) {
    const auto text = contents_of(level.folder / "cpu.max");  // "200000 100000", or "max 100000"
    if (!text) return std::nullopt;
    const auto parts = split(trim(*text), ' ');
    quota = leading_number(parts[0]);
    period = parts.size() > 1 ? leading_number(parts[1]) : std::optional<std::uint64_t>(100000);
  } else {
    quota = number_in(level.folder / "cpu.cfs_quota_us");  // -1: no limit
    period = number_in(level.folder / "cpu.cfs_period_us");
  }
  if (!quota || !period || *period == 0) return std::nullopt;
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

}  // namespace

bool Processor::has(const std::string& flag) const { return std::find(flags.begin(), flags.end(), flag) != flags.end(); }

int Processor::usable() const {
  const double most = quota ? std::min(static_cast<double>(cores), *quota) : static_cast<double>(cores);
  return std::max(1, static_cast<int>(most + 0.5));
}

Processor read_processor(const fs::path& root) {
  Processor processor;
  const std::string text = contents_of(root / "proc/cpuinfo").value_or("");
  processor.model = cpuinfo_value(text, "model name");
  processor.flags = split(cpuinfo_value(text, "flags"), ' ');
  processor.cores = cores_of_affinity();
  for (const auto& level : cgroup_levels("cpu", root))
    if (const auto quota = quota_of(level); quota && (!processor.quota || *quota < *processor.quota)) processor.quota = quota;
  return processor;
}

MachineMemory read_memory(const fs::path& root) {
  const auto bytes = [&](std::string_view key) { return field_in(root / "proc/meminfo", key).value_or(0) * 1024; };
  return {bytes("MemTotal:"), bytes("MemAvailable:"), bytes("SwapTotal:"), bytes("SwapFree:")};
}

std::string process_name(std::int64_t pid, const fs::path& root) { return std::string(trim(contents_of(root / "proc" / std::to_string(pid) / "comm").value_or(""))); }

std::vector<ProcessMemory> largest_processes(std::size_t most, const fs::path& root) {
  std::vector<ProcessMemory> all;
  const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  std::error_code ignored;
  for (fs::directory_iterator at(root / "proc", ignored), end; !ignored && at != end; at.increment(ignored)) {
    const std::string name = at->path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const auto pid = leading_number(name);
    const auto statm = contents_of(at->path() / "statm");  // size resident shared ...
    if (!pid || !statm || static_cast<std::int64_t>(*pid) == getpid()) continue;
    const auto space = statm->find(' ');
    const auto pages = space == std::string::npos ? std::nullopt : leading_number(std::string_view(*statm).substr(space + 1));
    if (!pages || *pages == 0) continue;  // threads of the kernel have none
    const std::string called = process_name(static_cast<std::int64_t>(*pid), root);
    all.push_back({static_cast<std::int64_t>(*pid), called.empty() ? "?" : called, *pages * page});
  }
  const auto shown = std::min(most, all.size());
  std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(shown), all.end(), [](const auto& a, const auto& b) { return a.resident > b.resident || (a.resident == b.resident && a.pid < b.pid); });
  all.resize(shown);
  return all;
}

DiskSpace disk_space(const fs::path& folder) {
  DiskSpace disk;
  std::error_code error;
  disk.folder = fs::absolute(folder, error);
  while (!fs::is_directory(disk.folder, error) && disk.folder.has_relative_path()) disk.folder = disk.folder.parent_path();
  const auto space = fs::space(disk.folder, error);
  if (!error) disk.free = space.available;
  disk.writable = access(disk.folder.c_str(), W_OK | X_OK) == 0;
  return disk;
}

}  // namespace sluice
