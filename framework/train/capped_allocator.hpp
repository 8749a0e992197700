// The allocator of all CPU tensors: capped, counted by account, and its memory follows what lives.
//
//   auto& allocator = CappedAllocator::install();
//   allocator.set_cap(512 * MiB);
//   { AccountScope parameters(Account::parameters); model = build(); }
//   allocator.counters().live;
//
// Past the cap it throws c10::OutOfMemoryError, as the allocators of devices do; LibTorch's own throws a plain c10::Error.
// Blocks are 64-byte aligned. Large ones are mappings, kept for reuse as long as live and kept bytes together stay within the
// cap, and within reuse_above() the peak of the live bytes; without a cap, within that peak.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <c10/core/Allocator.h>

#include "framework/memory/ledger.hpp"
#include "framework/train/kept_blocks.hpp"

namespace sluice {

class CappedAllocator final : public c10::Allocator {
  struct Key {};

 public:
  explicit CappedAllocator(Key) {}  // there is one: install()
  // Takes the place of LibTorch's CPU allocator for the rest of the process. Blocks made before stay with their own.
  static CappedAllocator& install();

  // 0: no cap. Bytes that live already are not taken back.
  void set_cap(std::uint64_t bytes);
  // Whether freed blocks may wait for reuse beyond the peak of the live ones where the cap has room for it; at first they may.
  void keep_beyond_peak(bool may);

  struct Counters {
    std::uint64_t cap = 0;
    std::uint64_t live = 0;        // as the system rounds them, headers included
    std::uint64_t peak = 0;        // of live, since the last reset_peak()
    std::uint64_t kept = 0;        // freed blocks that wait for reuse
    std::uint64_t footprint = 0;   // peak of live and kept together, since the last reset_peak()
    std::uint64_t allocations = 0;
    std::uint64_t reused = 0;
    std::array<std::uint64_t, static_cast<int>(Account::count_)> by_account{};
    [[nodiscard]] std::uint64_t of(Account account) const { return by_account[static_cast<std::size_t>(account)]; }
  };
  [[nodiscard]] Counters counters() const;
  void reset_peak();
  // Under a cap with room for it, live and kept bytes together come to so much more than the peak of the live ones.
  [[nodiscard]] static std::uint64_t reuse_above(std::uint64_t peak) noexcept;
  void trim();  // gives the kept blocks back to the system
  // Moves a block to another account; false when the block is not ours.
  bool retag(const c10::DataPtr& block, Account account);

  // Blocks of one account that were allocated at one place (PlaceScope); those below 64 KiB are not told apart.
  struct Held {
    std::uint64_t bytes = 0;
    std::int64_t blocks = 0;
    Account account = Account::activations;
    std::string place{};
  };
  // What lived when an allocation was refused.
  struct Refusal {
    std::uint64_t requested = 0;
    std::string place{};   // that asked for it
    bool at_cap = true;    // false: the system had no more
    Counters counters{};
    std::vector<Held> largest{};   // blocks, the largest five
    std::vector<Held> by_place{};  // sums, the largest first
  };
  [[nodiscard]] Refusal last_refusal() const;

  // The n-th allocation from now on (1: the next) fails as at the cap, once; 0: none. For tests of recovery.
  void fail_at(std::uint64_t n);

  c10::DataPtr allocate(std::size_t bytes) override;
  c10::DeleterFnPtr raw_deleter() const override;
  void copy_data(void* to, const void* from, std::size_t bytes) const override;

 private:
  friend class AccountScope;
  friend class PlaceScope;
  struct Header;

  static CappedAllocator& instance();
  static void release(void* data);
  static Account& current_account();
  static const char*& current_place();
  [[nodiscard]] const char* interned(std::string_view place);
  void enlist(Header* header) noexcept;
  void delist(Header* header) noexcept;
  [[nodiscard]] Refusal refusal_of(std::uint64_t bytes, bool at_cap) const;
  [[noreturn]] void refuse(std::uint64_t bytes, bool at_cap);
  void* map_or_reuse(std::uint64_t total);
  void make_room(std::uint64_t total) noexcept;
  void keep_within_limit() noexcept;
  [[nodiscard]] std::uint64_t footprint_limit() const noexcept;

  mutable std::mutex mutex_;
  Counters counters_;
  std::uint64_t high_ = 0;  // peak of live over the whole process
  bool beyond_peak_ = true;
  std::uint64_t fail_in_ = 0;
  KeptBlocks kept_;
  Header* mapped_ = nullptr;  // the newest of the mapped blocks that live, linked with the others
  std::set<std::string, std::less<>> places_;
  Refusal last_refusal_;
};

// Tensors allocated on this thread while it lives belong to the account. Without one: activations.
class AccountScope {
 public:
  explicit AccountScope(Account account);
  ~AccountScope();
  AccountScope(const AccountScope&) = delete;
  AccountScope& operator=(const AccountScope&) = delete;

 private:
  Account before_;
};

// Tensors allocated on this thread while it lives were made at this place: a segment, "the backward pass". Told when memory runs out.
class PlaceScope {
 public:
  explicit PlaceScope(std::string_view place);
  ~PlaceScope();
  PlaceScope(const PlaceScope&) = delete;
  PlaceScope& operator=(const PlaceScope&) = delete;

 private:
  const char* before_;
};

}  // namespace sluice
