// Patience: what finds the system without memory is tried again a little later, when other programs or other samples may have given some back.
//
//   with_patience([&] { work(); }, [&] { return nothing_changed; });
#pragma once

#include <chrono>
#include <new>
#include <thread>

#include <sluice/error.hpp>

namespace sluice {

// Calls `work` up to five times, within a third of a second, as long as it ends for want of memory (std::bad_alloc, Code::memory) and
// `may_repeat()`. Then throws Error(Code::memory).
template <class Work, class MayRepeat> void with_patience(Work&& work, MayRepeat&& may_repeat) {
  constexpr int most = 5;
  for (int call = 1;; ++call) {
    try {
      return work();
    } catch (const std::bad_alloc&) {
      if (call == most || !may_repeat()) throw Error(Code::memory, "out of memory: the machine has no more", "close other programs, or lower budget.host_ram below what is free; --resume goes on");
    } catch (const Error& error) {
      if (error.code() != Code::memory || call == most || !may_repeat()) throw;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10 << call));
  }
}

}  // namespace sluice
