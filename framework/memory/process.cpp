// Reads /proc and the cgroup file systems.
#include "framework/memory/process.hpp"

#include <algorithm>
#include <fstream>
#include <span>
#include <string_view>

#include <elf.h>
#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <sluice/error.hpp>

#include "framework/memory/cgroup.hpp"
#include "framework/memory/proc_files.hpp"

namespace sluice {
namespace fs = std::filesystem;
namespace {

constexpr std::uint64_t unlimited = std::uint64_t{1} << 60;  // version 1 writes a number near 2^63 where there is no limit

std::optional<CgroupMemory> read_level(const fs::path& folder, int version) {
  const auto limit = number_in(folder / (version == 2 ? "memory.max" : "memory.limit_in_bytes"));
  if (!limit || *limit >= unlimited) return std::nullopt;  // version 2 writes "max"
  CgroupMemory level{version, folder, *limit, 0, 0};
  level.used = number_in(folder / (version == 2 ? "memory.current" : "memory.usage_in_bytes")).value_or(0);
  level.reclaimable = field_in(folder / "memory.stat", version == 2 ? "inactive_file " : "total_inactive_file ").value_or(0);
  return level;
}

// Whether the loader wrote into its code: those pages are not those of the file.
bool is_relocated_in_place(const dl_phdr_info& library) {
  for (const auto& segment : std::span(library.dlpi_phdr, library.dlpi_phnum)) {
    if (segment.p_type != PT_DYNAMIC) continue;
    for (const auto* entry = reinterpret_cast<const ElfW(Dyn)*>(library.dlpi_addr + segment.p_vaddr); entry->d_tag != DT_NULL; ++entry)
      if (entry->d_tag == DT_TEXTREL || (entry->d_tag == DT_FLAGS && (entry->d_un.d_val & DF_TEXTREL) != 0)) return true;
  }
  return false;
}

}  // namespace

std::uint64_t resident_bytes() {
  const auto text = contents_of("/proc/self/statm");
  const auto at = text ? text->find(' ') : std::string::npos;
  const auto pages = at == std::string::npos ? std::nullopt : leading_number(std::string_view(*text).substr(at + 1));
  if (!pages) throw Error(Code::io, "the resident size of the process cannot be read", "mount /proc", "/proc/self/statm");
  return *pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

std::uint64_t peak_resident_bytes() {
  const auto kibibytes = field_in("/proc/self/status", "VmHWM:");
  if (!kibibytes) throw Error(Code::io, "the peak of the resident size cannot be read", "mount /proc", "/proc/self/status");
  return *kibibytes * 1024;
}

bool reset_peak_resident() {
  std::ofstream out("/proc/self/clear_refs");
  out << '5';
  out.close();
  return !out.fail();
}

int thread_count() { return static_cast<int>(field_in("/proc/self/status", "Threads:").value_or(0)); }

std::optional<CgroupMemory> memory_cgroup(const fs::path& root) {
  std::optional<CgroupMemory> tightest;
  for (const auto& [version, folder] : cgroup_levels("memory", root)) {
    const auto level = read_level(folder, version);
    if (level && (!tightest || level->limit < tightest->limit)) tightest = level;
  }
  return tightest;
}

std::uint64_t free_memory(const fs::path& root) {
  auto least = field_in(root / "proc/meminfo", "MemAvailable:").value_or(0) * 1024;
  if (const auto group = memory_cgroup(root)) {
    const auto held = group->used - std::min(group->used, group->reclaimable);
    least = std::min(least, group->limit - std::min(group->limit, held));
  }
  return least;
}

void give_back_pages_of_libraries() {
  if (field_in("/proc/self/status", "TracerPid:").value_or(0) != 0) return;
  dl_iterate_phdr(
      [](dl_phdr_info* library, std::size_t, void*) {
        if (std::string_view(library->dlpi_name).starts_with("linux-vdso") || is_relocated_in_place(*library)) return 0;
        const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
        for (const auto& segment : std::span(library->dlpi_phdr, library->dlpi_phnum)) {
          if (segment.p_type != PT_LOAD || (segment.p_flags & PF_W) != 0) continue;  // what is written differs from the file
          const auto begin = (library->dlpi_addr + segment.p_vaddr) / page * page, end = library->dlpi_addr + segment.p_vaddr + segment.p_memsz;
          ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
        }
        return 0;
      },
      nullptr);
}

void pin_malloc() {
  mallopt(M_MMAP_THRESHOLD, 128 * 1024);
  mallopt(M_TRIM_THRESHOLD, 256 * 1024);
  mallopt(M_ARENA_MAX, 2);
}

}  // namespace sluice
