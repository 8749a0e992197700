// LibTorch's counters of a card come through an interface that every kind of card shares.
#include "framework/train/tensor_memory.hpp"

#include <algorithm>
#include <utility>

#include <c10/core/CachingDeviceAllocator.h>

#include "framework/train/capped_allocator.hpp"

namespace sluice {
namespace {

c10::DeviceIndex index_of(at::Device device) { return device.has_index() ? device.index() : c10::DeviceIndex{0}; }
const c10::CachingAllocator::Stat& all_of(const c10::CachingAllocator::StatArray& stats) { return stats[static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE)]; }
std::uint64_t bytes(std::int64_t count) { return static_cast<std::uint64_t>(std::max<std::int64_t>(0, count)); }

}  // namespace

TensorMemory::Counters TensorMemory::counters() const {
  if (in_host()) {
    const auto now = CappedAllocator::install().counters();
    return {now.live, now.peak, now.live + now.kept, now.footprint};
  }
  const auto now = c10::getDeviceAllocator(device_.type())->getDeviceStats(index_of(device_));
  const auto &allocated = all_of(now.allocated_bytes), &reserved = all_of(now.reserved_bytes);
  return {bytes(allocated.current), bytes(allocated.peak), bytes(reserved.current), bytes(reserved.peak)};
}

void TensorMemory::reset_peak() const {
  if (in_host()) CappedAllocator::install().reset_peak();
  else c10::getDeviceAllocator(device_.type())->resetPeakStats(index_of(device_));
}

void TensorMemory::trim() const {
  if (in_host()) CappedAllocator::install().trim();
  else c10::getDeviceAllocator(device_.type())->emptyCache();
}

void TensorMemory::set_cap(std::uint64_t bytes) const {
  if (in_host()) CappedAllocator::install().set_cap(bytes);
}

CardMemory card_memory(at::Device device) {
  const auto [free, total] = c10::getDeviceAllocator(device.type())->getMemoryInfo(index_of(device));
  return {total, free};
}

std::vector<NvidiaCard::User> others_on(at::Device device) {
  auto cards = read_nvidia().cards;
  const auto index = static_cast<std::size_t>(index_of(device));
  return index < cards.size() ? std::move(cards[index].users) : std::vector<NvidiaCard::User>{};
}

}  // namespace sluice
