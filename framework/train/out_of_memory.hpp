// What a run that ends for want of memory tells: who asked, who holds what, and the smallest single changes that would have done.
//
//   catch (const c10::OutOfMemoryError&) {
//     const auto refusal = CappedAllocator::install().last_refusal();   // before anything else is tried
//     throw Error(Code::configuration, "out of memory in step 3" + report_of(refusal), hint_of(changes));
//   }
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "framework/train/capped_allocator.hpp"

namespace sluice {

// Lines, each begun by a newline: requested, held, kept, by account, by place, the largest blocks, the process, the machine and who
// else holds its memory.
[[nodiscard]] std::string report_of(const CappedAllocator::Refusal& refusal);

// One key of a pipeline with which what failed goes through.
struct Change {
  std::string key, value;  // "budget.host_ram", "\"700MiB\""
  std::string effect;      // on what is learnt, and what was seen when it was tried
};
// "write budget.host_ram = "700MiB" (...); or ...".
[[nodiscard]] std::string hint_of(const std::vector<Change>& changes);

// Whether a library says in its own words that a device has no memory for it: CUDA's runtime by its number, cuBLAS and cuDNN that find no room for a
// handle or a workspace.
[[nodiscard]] bool says_out_of_memory(const std::exception& error);
[[noreturn]] void throw_as_out_of_memory(const std::exception& error);

// Calls `work`; what says_out_of_memory() leaves it as c10::OutOfMemoryError, so that it is recovered from as one.
template <class Work> decltype(auto) telling_out_of_memory(Work&& work) {
  try {
    return work();
  } catch (const std::exception& error) {
    if (says_out_of_memory(error)) throw_as_out_of_memory(error);
    throw;
  }
}

// Whether `work` goes through under the cap that there is; and its peak above what lives now with up to half of what the
// machine or cgroup has free, beyond the budget, nothing where that is not enough. What `work` throws otherwise is thrown on.
[[nodiscard]] bool fits(const std::function<void()>& work);
[[nodiscard]] std::optional<std::uint64_t> peak_of(const std::function<void()>& work);

}  // namespace sluice
