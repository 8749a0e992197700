// The counters of a card's allocator, of which one stands here that only counts; and those of the host.
#include "framework/train/tensor_memory.hpp"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <doctest/doctest.h>

#include "framework/base/bytes.hpp"
#include "framework/train/capped_allocator.hpp"

using namespace sluice;

namespace {

// LibTorch's statistics, moved by hand.
struct CardOfNumbers final : c10::DeviceAllocator {
  c10::CachingDeviceAllocator::DeviceStats stats{};
  int emptied = 0;

  void take(std::uint64_t bytes, std::uint64_t segment) {
    stats.allocated_bytes[0].increase(bytes);
    stats.reserved_bytes[0].increase(segment);
  }
  void free(std::uint64_t bytes) { stats.allocated_bytes[0].decrease(bytes); }

  c10::DataPtr allocate(std::size_t) override { return {}; }
  void copy_data(void*, const void*, std::size_t) const override {}
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {
    ++emptied;
    stats.reserved_bytes[0].decrease(static_cast<std::size_t>(stats.reserved_bytes[0].current - stats.allocated_bytes[0].current));
  }
  void recordStream(const c10::DataPtr&, c10::Stream) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex) override { return stats; }
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex) override {
    stats.allocated_bytes[0].reset_peak();
    stats.reserved_bytes[0].reset_peak();
  }
  std::pair<std::size_t, std::size_t> getMemoryInfo(c10::DeviceIndex) override { return {3 * GiB, 8 * GiB}; }
};

}  // namespace

// Mistakes caught: live bytes that are taken for reserved ones, a peak of before the reset, free and total the wrong way round.
TEST_CASE("a card's memory is what its allocator counts") {
  static CardOfNumbers card;
  c10::SetAllocator(c10::DeviceType::PrivateUse1, &card, 255);
  const at::Device device(c10::DeviceType::PrivateUse1, 0);
  const TensorMemory memory(device);
  CHECK_FALSE(memory.in_host());
  card.take(100 * MiB, 120 * MiB);
  card.free(60 * MiB);
  CHECK(memory.counters().live == 40 * MiB);
  CHECK(memory.counters().peak == 100 * MiB);
  CHECK(memory.counters().held == 120 * MiB);
  CHECK(memory.counters().footprint == 120 * MiB);
  memory.trim();
  CHECK(card.emptied == 1);
  memory.reset_peak();
  CHECK(memory.counters().peak == 40 * MiB);
  CHECK(memory.counters().footprint == 40 * MiB);
  CHECK(card_memory(device).free == 3 * GiB);
  CHECK(card_memory(device).total == 8 * GiB);
}

TEST_CASE("the host's is that of the capped allocator") {
  auto& allocator = CappedAllocator::install();
  const TensorMemory memory(at::Device(at::kCPU));
  CHECK(memory.in_host());
  memory.trim();
  memory.reset_peak();
  const auto before = memory.counters();
  at::Tensor block = at::empty({static_cast<std::int64_t>(8 * MiB)}, at::TensorOptions(at::kByte));
  CHECK(memory.counters().live >= before.live + 8 * MiB);
  CHECK(memory.counters().held >= memory.counters().live);
  block.reset();
  CHECK(memory.counters().peak >= before.live + 8 * MiB);
  memory.set_cap(before.live + 4 * MiB);
  CHECK(allocator.counters().cap == before.live + 4 * MiB);
  CHECK_THROWS_AS(static_cast<void>(at::empty({static_cast<std::int64_t>(8 * MiB)}, at::TensorOptions(at::kByte))), c10::OutOfMemoryError);
  memory.set_cap(0);
}
