// The memory that tensors take on one device: the host's, which CappedAllocator counts and bounds, or a card's, which LibTorch's
// caching allocator does.
//
//   TensorMemory memory(device);
//   memory.reset_peak();
//   forward_and_backward();
//   memory.counters().peak;
#pragma once

#include <cstdint>
#include <vector>

#include <c10/core/Device.h>

#include "framework/memory/nvidia.hpp"

namespace sluice {

class TensorMemory {
 public:
  explicit TensorMemory(at::Device device) : device_(device) {}

  // Whether tensors take their bytes from host_ram.
  [[nodiscard]] bool in_host() const { return device_.is_cpu(); }

  struct Counters {
    std::uint64_t live = 0;       // bytes of tensors
    std::uint64_t peak = 0;       // of live, since the last reset_peak()
    std::uint64_t held = 0;       // live, and freed blocks that wait for reuse
    std::uint64_t footprint = 0;  // peak of held, since the last reset_peak()
  };
  [[nodiscard]] Counters counters() const;
  void reset_peak() const;
  // Gives freed blocks back to the system, or to the driver.
  void trim() const;

  // 0: none. In the host an allocation past it throws c10::OutOfMemoryError. LibTorch's interface to cards has no cap: there it does nothing, and what
  // was held has to be looked at afterwards; what a card does not have throws as in the host.
  void set_cap(std::uint64_t bytes) const;

 private:
  at::Device device_;
};

// What a card has, in bytes: all of it, and what is free of it now. Throws c10::Error where its allocator cannot tell.
struct CardMemory {
  std::uint64_t total = 0, free = 0;
};
[[nodiscard]] CardMemory card_memory(at::Device device);
// Other processes that compute on it, as far as the driver tells.
[[nodiscard]] std::vector<NvidiaCard::User> others_on(at::Device device);

}  // namespace sluice
