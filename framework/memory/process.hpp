// What the system says about this process: resident bytes, threads, the memory cgroup it lives in; and malloc, pinned down.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace sluice {

[[nodiscard]] std::uint64_t resident_bytes();
// Largest resident size so far (VmHWM). Throws Code::io where /proc does not tell.
[[nodiscard]] std::uint64_t peak_resident_bytes();
// Starts VmHWM anew from the present size; false where the kernel does not allow it.
bool reset_peak_resident();
[[nodiscard]] int thread_count();

// The tightest memory cgroup above this process, version 1 or 2. `root` stands for / in tests.
struct CgroupMemory {
  int version = 2;
  std::filesystem::path folder;
  std::uint64_t limit = 0;        // bytes
  std::uint64_t used = 0;         // page cache included
  std::uint64_t reclaimable = 0;  // of it, inactive file pages, which the kernel drops first
};
// Nothing when no limit is set.
[[nodiscard]] std::optional<CgroupMemory> memory_cgroup(const std::filesystem::path& root = "/");

// Bytes that this process could take now without swapping or being killed: the machine's or the cgroup's, whichever is less.
[[nodiscard]] std::uint64_t free_memory(const std::filesystem::path& root = "/");

// malloc returns what is freed: every block of 128 KiB or more is mapped on its own, at most two arenas, the top of the heap
// trimmed. Without it a ledger of 256 MiB that is never exceeded ends at 577 to 655 MiB resident, with it at 267. Call it
// first thing in main(), before any thread starts.
void pin_malloc();

// Pages of code and constants that were read while the process started, of all libraries: what is needed again comes back from the system's page cache.
// Nothing where a debugger is attached, whose breakpoints lie in such pages.
void give_back_pages_of_libraries();

}  // namespace sluice
