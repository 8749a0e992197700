// The order of calls that keeps LibTorch at n - 1 threads beside ours; tests/libtorch_contract/threads_test.cpp holds it to that.
#include "framework/train/threads.hpp"

#include <ATen/Parallel.h>

namespace sluice {

void settle_threads_first() { at::set_num_threads(1); }

void set_compute_threads(std::int64_t threads) {
  at::get_num_threads();  // the number of others is applied lazily, at a thread's first question
  at::set_num_threads(static_cast<int>(threads));
}

std::int64_t compute_threads() { return at::get_num_threads(); }

}  // namespace sluice
