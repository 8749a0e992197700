// The pool of blocks that arrays live in: mapped one by one in size classes, kept for reuse only inside the samples' share.
//
//   FramePool pool(ledger.cap());
//   auto tally = std::make_shared<Tally>(makers);
//   std::optional<abi::Block> block = pool.allocate(bytes, tally, maker, allowance);   // released by whoever holds it
//
// Live and kept bytes together never exceed the limit. Leases count bytes as rounded() gives them, so a sample inside its
// lease always finds its block: kept ones of other sizes give way.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <sluice/abi.hpp>

namespace sluice {

// Live bytes of one sample by who made them (a stage's number). Its blocks hold it, so it outlives the sample's record.
class Tally {
 public:
  explicit Tally(std::size_t makers) : live_(makers) {}
  [[nodiscard]] std::uint64_t live(std::size_t maker) const { return live_[maker].load(std::memory_order_relaxed); }
  [[nodiscard]] std::size_t makers() const { return live_.size(); }

 private:
  friend class FramePool;
  std::vector<std::atomic<std::uint64_t>> live_;
};

class FramePool {
 public:
  explicit FramePool(std::uint64_t limit);
  ~FramePool();  // kept blocks go back to the system; live ones stay valid, each until it is released
  FramePool(const FramePool&) = delete;
  FramePool& operator=(const FramePool&) = delete;

  static constexpr std::uint64_t page = 4096;
  // What a block of this many bytes takes: whole pages, at most an eighth more than asked for above 32 KiB.
  [[nodiscard]] static constexpr std::uint64_t rounded(std::uint64_t bytes) {
    if (bytes <= page) return page;
    if (bytes > (std::uint64_t{1} << 62)) return bytes;  // nobody has it; the ledger says so
    int top = 63;
    while (!((bytes - 1) >> top)) --top;
    const std::uint64_t step = std::uint64_t{1} << (top > 15 ? top - 3 : 12);
    return (bytes + step - 1) / step * step;
  }

  // Uninitialised bytes, page-aligned; the block's size is what was asked for. Nothing when the maker's live bytes in the
  // tally would pass the allowance. Throws std::bad_alloc when the system refuses.
  [[nodiscard]] std::optional<abi::Block> allocate(std::uint64_t bytes, const std::shared_ptr<Tally>& tally, std::size_t maker, std::uint64_t allowance);

  struct Found {
    std::uint64_t bytes = 0;   // as rounded
    std::uint64_t serial = 0;  // differs for every block ever given out
    std::size_t maker = 0;
    const Tally* tally = nullptr;
  };
  // What is known of a live block of this pool; nothing for any other address.
  [[nodiscard]] std::optional<Found> find(const void* data) const;

  // Bytes of the share that libraries hold beside the pool (a decoder's working set): kept blocks make room for them.
  void claim_outside(std::uint64_t bytes);
  void return_outside(std::uint64_t bytes);

  struct Counters {
    std::uint64_t limit = 0, live = 0, kept = 0, outside = 0, peak = 0;  // peak: of live and kept together
    std::uint64_t blocks = 0, mapped = 0, reused = 0;                    // live blocks; allocations that had to map, or not
    std::uint64_t refused = 0;                                           // for which the system had no memory
  };
  [[nodiscard]] Counters counters() const;

  // The n-th allocation from now on (1: the next) finds the system without memory, and `times - 1` after it; 0: none. For tests of recovery.
  void fail_at(std::uint64_t n, std::uint64_t times = 1);

 private:
  class Core;
  std::shared_ptr<Core> core_;
};

}  // namespace sluice
