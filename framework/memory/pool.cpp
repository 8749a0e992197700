// Size classes over mmap. The core lives as long as the pool or any block, so a batch may outlive the feed that made it.
#include "framework/memory/pool.hpp"

#include <algorithm>
#include <deque>
#include <list>
#include <mutex>
#include <new>
#include <unordered_map>
#include <utility>

#include <sys/mman.h>

#include "framework/memory/invariant.hpp"

namespace sluice {

class FramePool::Core : public std::enable_shared_from_this<FramePool::Core> {
 public:
  explicit Core(std::uint64_t limit) { counters_.limit = limit; }

  std::optional<abi::Block> allocate(std::uint64_t bytes, const std::shared_ptr<Tally>& tally, std::size_t maker, std::uint64_t allowance) {
    const auto size = rounded(bytes);
    const std::lock_guard lock(mutex_);
    auto& mine = tally->live_[maker];
    if (const auto held = mine.load(std::memory_order_relaxed); held > allowance || size > allowance - held) return std::nullopt;
    invariant(counters_.live + size <= counters_.limit, "a sample inside its lease found the pool full");
    if (fail_in_ != 0 && --fail_in_ == 0) {
      if (--fail_times_ > 0) fail_in_ = 1;
      refuse();
    }
    void* data = reuse(size);
    if (data) ++counters_.reused;
    else data = map(size);
    try {
      live_.emplace(data, Live{size, next_serial_++, maker, tally});
    } catch (const std::bad_alloc&) {
      unmap(data, size);
      refuse();
    }
    mine.fetch_add(size, std::memory_order_relaxed);
    counters_.live += size;
    counters_.peak = std::max(counters_.peak, counters_.live + counters_.kept);
    if (counters_.blocks++ == 0) alive_ = shared_from_this();
    return abi::Block{data, bytes, this, &Core::released};
  }

  std::optional<Found> find(const void* data) const {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(const_cast<void*>(data));
    if (found == live_.end()) return std::nullopt;
    const auto& live = found->second;
    return Found{live.bytes, live.serial, live.maker, live.tally.get()};
  }

  void claim_outside(std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    counters_.outside += bytes;
    evict_until(room_for_kept());
  }
  void return_outside(std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    invariant(bytes <= counters_.outside, "more was returned to the pool's share than had been claimed");
    counters_.outside -= bytes;
  }

  void fail_at(std::uint64_t n, std::uint64_t times) {
    const std::lock_guard lock(mutex_);
    fail_in_ = n;
    fail_times_ = times;
  }

  Counters counters() const {
    const std::lock_guard lock(mutex_);
    return counters_;
  }

  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    evict_until(0);
  }

 private:
  struct Live {
    std::uint64_t bytes;
    std::uint64_t serial;
    std::size_t maker;
    std::shared_ptr<Tally> tally;
  };
  struct Kept {
    void* data;
    std::uint64_t bytes;
  };

  static void released(void* owner, void* data, std::uint64_t) { static_cast<Core*>(owner)->release(data); }

  void release(void* data) {
    std::shared_ptr<Core> last;  // destroyed after the lock is gone
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(data);
    invariant(found != live_.end(), "a block was released twice, or never came from the pool");
    const auto size = found->second.bytes;
    found->second.tally->live_[found->second.maker].fetch_sub(size, std::memory_order_relaxed);
    live_.erase(found);
    counters_.live -= size;
    if (closed_ || counters_.kept + size > room_for_kept() || !keep(data, size)) unmap(data, size);
    if (--counters_.blocks == 0) last = std::move(alive_);
  }

  [[noreturn]] void refuse() {
    ++counters_.refused;
    throw std::bad_alloc();
  }

  // False: there is no memory for the lists. Whoever releases a block cannot be told.
  bool keep(void* data, std::uint64_t size) noexcept {
    try {
      auto& same = by_size_[size];
      kept_.push_back({data, size});
      try {
        same.push_back(std::prev(kept_.end()));
      } catch (const std::bad_alloc&) {
        kept_.pop_back();
        return false;
      }
    } catch (const std::bad_alloc&) {
      return false;
    }
    counters_.kept += size;
    return true;
  }

  [[nodiscard]] std::uint64_t room_for_kept() const {
    const auto taken = counters_.live + counters_.outside;
    return taken < counters_.limit ? counters_.limit - taken : 0;
  }

  void* reuse(std::uint64_t size) {
    const auto found = by_size_.find(size);
    if (found == by_size_.end() || found->second.empty()) return nullptr;
    const auto newest = found->second.back();  // the warmest in the caches
    found->second.pop_back();
    void* data = newest->data;
    kept_.erase(newest);
    counters_.kept -= size;
    return data;
  }

  void* map(std::uint64_t size) {
    const auto room = room_for_kept();
    evict_until(room > size ? room - size : 0);
    const auto mapping = [size] { return mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); };
    void* data = mapping();
    if (data == MAP_FAILED) {
      evict_until(0);
      data = mapping();
    }
    if (data == MAP_FAILED) refuse();
    ++counters_.mapped;
    return data;
  }

  // The oldest go first, whatever their size.
  void evict_until(std::uint64_t most) {
    while (counters_.kept > most) {
      const auto oldest = kept_.front();
      by_size_[oldest.bytes].pop_front();
      kept_.pop_front();
      counters_.kept -= oldest.bytes;
      unmap(oldest.data, oldest.bytes);
    }
  }

  static void unmap(void* data, std::uint64_t size) { invariant(munmap(data, size) == 0, "munmap failed on a block of the pool"); }

  mutable std::mutex mutex_;
  std::uint64_t fail_in_ = 0, fail_times_ = 0;
  Counters counters_;
  bool closed_ = false;
  std::uint64_t next_serial_ = 1;
  std::unordered_map<void*, Live> live_;
  std::list<Kept> kept_;  // oldest first
  std::unordered_map<std::uint64_t, std::deque<std::list<Kept>::iterator>> by_size_;
  std::shared_ptr<Core> alive_;  // to itself while a block lives
};

FramePool::FramePool(std::uint64_t limit) : core_(std::make_shared<Core>(limit)) {}
FramePool::~FramePool() { core_->close(); }

std::optional<abi::Block> FramePool::allocate(std::uint64_t bytes, const std::shared_ptr<Tally>& tally, std::size_t maker, std::uint64_t allowance) {
  return core_->allocate(bytes, tally, maker, allowance);
}
std::optional<FramePool::Found> FramePool::find(const void* data) const { return core_->find(data); }
void FramePool::claim_outside(std::uint64_t bytes) { core_->claim_outside(bytes); }
void FramePool::return_outside(std::uint64_t bytes) { core_->return_outside(bytes); }
void FramePool::fail_at(std::uint64_t n, std::uint64_t times) { core_->fail_at(n, times); }
FramePool::Counters FramePool::counters() const { return core_->counters(); }

}  // namespace sluice
