// Blocks that come back are kept for the next step: the same segments ask for the same sizes.
#include "framework/train/offload_store.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <memory>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/util/Exception.h>

#include "framework/base/bytes.hpp"

namespace sluice {

HostBlock& HostBlock::operator=(HostBlock&& other) noexcept {
  if (this == &other) return *this;
  reset();
  bytes_ = std::move(other.bytes_);
  other.bytes_.reset();
  mapping_ = std::exchange(other.mapping_, nullptr);
  counted_ = std::exchange(other.counted_, 0);
  return *this;
}

void HostBlock::reset() noexcept {
  if (!bytes_.defined()) return;
  bytes_.reset();
  OffloadStore::instance().give_back(std::exchange(mapping_, nullptr), std::exchange(counted_, 0));
}

OffloadStore& OffloadStore::instance() {
  // Immortal: graphs in statics let go of their tensors after everything else.
  static OffloadStore& store = *std::make_unique<OffloadStore>(Key{}).release();
  return store;
}

void OffloadStore::set_cap(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  counters_.cap = bytes;
  if (bytes != 0) kept_.drop_until(bytes - std::min(bytes, counters_.live));
}

OffloadStore::Counters OffloadStore::counters() const {
  const std::lock_guard lock(mutex_);
  Counters now = counters_;
  now.kept = kept_.bytes();
  return now;
}

void OffloadStore::reset_peak() {
  const std::lock_guard lock(mutex_);
  counters_.peak = counters_.live;
}

void OffloadStore::trim() {
  const std::lock_guard lock(mutex_);
  kept_.drop_until(0);
}

std::uint64_t OffloadStore::counted(std::uint64_t bytes, at::Device device) noexcept {
  // LibTorch's allocator of pinned memory rounds up to a power of two.
  return device.is_cpu() ? (bytes + KeptBlocks::page - 1) / KeptBlocks::page * KeptBlocks::page : std::bit_ceil(bytes);
}

HostBlock OffloadStore::take(std::uint64_t bytes, at::Device device) {
  HostBlock block;
  const std::uint64_t total = counted(bytes, device);
  const std::lock_guard lock(mutex_);
  TORCH_CHECK_WITH(OutOfMemoryError, counters_.cap == 0 || counters_.live + total <= counters_.cap, "activations that wait in host memory need ", format_bytes(total), " more than the ",
                   format_bytes(counters_.live), " that wait already; their share of host_ram is ", format_bytes(counters_.cap));
  const auto length = static_cast<std::int64_t>(bytes);
  if (device.is_cpu()) {
    block.mapping_ = kept_.take(total);
    if (block.mapping_ == nullptr) {
      // What was kept and did not serve makes room.
      kept_.drop_until(std::max(counters_.peak, counters_.live + total) - counters_.live - total);
      void* mapping = mmap(nullptr, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      TORCH_CHECK_WITH(OutOfMemoryError, mapping != MAP_FAILED, "activations that wait in host memory need ", format_bytes(total), ", and the system has no more");
      block.mapping_ = mapping;
    }
    block.bytes_ = at::from_blob(block.mapping_, {length}, at::TensorOptions(at::kByte));
  } else {
    block.bytes_ = at::empty({length}, at::TensorOptions(at::kByte).pinned_memory(true));
  }
  block.counted_ = total;
  counters_.live += total;
  counters_.taken += total;
  counters_.peak = std::max(counters_.peak, counters_.live);
  return block;
}

void OffloadStore::give_back(void* mapping, std::uint64_t counted) noexcept {
  const std::lock_guard lock(mutex_);
  counters_.live -= counted;
  if (mapping == nullptr) return;
  kept_.add(mapping, counted);
  kept_.drop_until(counters_.peak - std::min(counters_.peak, counters_.live));
}

}  // namespace sluice
