// Host memory for activations that wait outside of the device, beyond the allocator of tensors and with a cap of its own.
//
//   auto& store = OffloadStore::instance();
//   store.set_cap(512 * MiB);
//   HostBlock block = store.take(bytes, device);
//   block.bytes().copy_(of_the_device);
//
// For a GPU the memory is pinned, so that copies run beside the computation. For the CPU, which stands in for a device with
// budget.device_memory, it is a mapping that CappedAllocator does not count.
#pragma once

#include <cstdint>
#include <mutex>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "framework/train/kept_blocks.hpp"

namespace sluice {

class OffloadStore;

// Bytes of the store; goes back to it when destroyed. Move-only.
class HostBlock {
 public:
  HostBlock() = default;
  HostBlock(HostBlock&& other) noexcept { *this = std::move(other); }
  HostBlock& operator=(HostBlock&& other) noexcept;
  HostBlock(const HostBlock&) = delete;
  HostBlock& operator=(const HostBlock&) = delete;
  ~HostBlock() { reset(); }

  void reset() noexcept;
  [[nodiscard]] explicit operator bool() const { return bytes_.defined(); }
  [[nodiscard]] const at::Tensor& bytes() const { return bytes_; }  // uint8, one axis

 private:
  friend class OffloadStore;
  at::Tensor bytes_;
  void* mapping_ = nullptr;  // null: pinned memory, which bytes_ owns
  std::uint64_t counted_ = 0;
};

// Thread-safe.
class OffloadStore {
  struct Key {};

 public:
  explicit OffloadStore(Key) {}
  static OffloadStore& instance();

  void set_cap(std::uint64_t bytes);  // 0: no cap

  struct Counters {
    std::uint64_t cap = 0;
    std::uint64_t live = 0;       // as the system rounds them
    std::uint64_t kept = 0;       // given back, waiting for reuse
    std::uint64_t peak = 0;       // of live, since the last reset_peak()
    std::uint64_t taken = 0;      // bytes of all blocks ever taken
  };
  [[nodiscard]] Counters counters() const;
  void reset_peak();
  void trim();  // gives what waits for reuse back to the system

  // What so many bytes count as: whole pages, or what the allocator of pinned memory makes of them.
  [[nodiscard]] static std::uint64_t counted(std::uint64_t bytes, at::Device device) noexcept;
  // Throws c10::OutOfMemoryError past the cap.
  [[nodiscard]] HostBlock take(std::uint64_t bytes, at::Device device);

 private:
  friend class HostBlock;
  void give_back(void* mapping, std::uint64_t counted) noexcept;

  mutable std::mutex mutex_;
  Counters counters_;
  KeptBlocks kept_;
};

}  // namespace sluice
