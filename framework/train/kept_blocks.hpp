// Freed mappings that wait for reuse: neighbours join, the best fit is split, the oldest pages go back to the system first.
#pragma once

#include <cstdint>

#include <boost/intrusive/list.hpp>
#include <boost/intrusive/set.hpp>

namespace sluice {

// Not thread-safe. Blocks and sizes are multiples of a page. The links stand in the blocks themselves, so keeping one never allocates.
// What is still kept when it goes away stays mapped.
class KeptBlocks {
 public:
  static constexpr std::uint64_t page = 4096;

  KeptBlocks() = default;
  KeptBlocks(const KeptBlocks&) = delete;
  KeptBlocks& operator=(const KeptBlocks&) = delete;
  ~KeptBlocks();

  // A part of the smallest block that holds `bytes`; null when none does.
  [[nodiscard]] void* take(std::uint64_t bytes) noexcept;
  // `bytes` of a mapping from `block` on are no longer used.
  void add(void* block, std::uint64_t bytes) noexcept;
  // Unmaps what was freed longest ago until at most `bytes` are kept.
  void drop_until(std::uint64_t bytes) noexcept;

  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  using AddressHook = boost::intrusive::set_member_hook<boost::intrusive::optimize_size<true>>;
  using ListHook = boost::intrusive::list_member_hook<>;
  struct Block {
    std::uint64_t bytes;
    AddressHook by_address, by_size;
    ListHook by_age;
    [[nodiscard]] std::uint8_t* begin() { return reinterpret_cast<std::uint8_t*>(this); }
    [[nodiscard]] std::uint8_t* end() { return begin() + bytes; }
  };
  struct Lower {
    bool operator()(const Block& a, const Block& b) const { return &a < &b; }
  };
  struct Smaller {
    bool operator()(const Block& a, const Block& b) const { return a.bytes != b.bytes ? a.bytes < b.bytes : &a < &b; }
    bool operator()(const Block& a, std::uint64_t bytes) const { return a.bytes < bytes; }
    bool operator()(std::uint64_t bytes, const Block& b) const { return bytes < b.bytes; }
  };
  template <AddressHook Block::*hook, class Order>
  using Tree = boost::intrusive::set<Block, boost::intrusive::member_hook<Block, AddressHook, hook>, boost::intrusive::compare<Order>>;

  // The new block in `at`, in the age of `beside` (just older than it), or the newest.
  Block& insert(std::uint8_t* at, std::uint64_t bytes, Block* beside) noexcept;
  void remove(Block& block) noexcept;

  Tree<&Block::by_address, Lower> by_address_;
  Tree<&Block::by_size, Smaller> by_size_;
  boost::intrusive::list<Block, boost::intrusive::member_hook<Block, ListHook, &Block::by_age>> by_age_;  // the oldest first
  std::uint64_t bytes_ = 0;
};

}  // namespace sluice
