// The trainer's threads: as many as `compute_threads` says, on whatever machine.
#pragma once

#include <cstdint>

namespace sluice {

// Call before anything else of LibTorch: its pools are made once, with the number that holds then, and a later, smaller
// number does not reach threads that are at work already.
void settle_threads_first();

// Call on the trainer's thread: its operations use `threads` from now on, itself included. The result depends on the number.
void set_compute_threads(std::int64_t threads);
[[nodiscard]] std::int64_t compute_threads();

}  // namespace sluice
