// The system hands out a page zeroed and by a fault, which costs more than most sums over it; so pages are used again.
#include "framework/train/kept_blocks.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <iterator>
#include <new>

namespace sluice {

KeptBlocks::~KeptBlocks() {
  by_address_.clear();
  by_size_.clear();
  by_age_.clear();
}

KeptBlocks::Block& KeptBlocks::insert(std::uint8_t* at, std::uint64_t bytes, Block* beside) noexcept {
  auto* block = new (at) Block{bytes, {}, {}, {}};
  by_address_.insert(*block);
  by_size_.insert(*block);
  by_age_.insert(beside ? by_age_.iterator_to(*beside) : by_age_.end(), *block);
  bytes_ += bytes;
  return *block;
}

void KeptBlocks::remove(Block& block) noexcept {
  by_address_.erase(by_address_.iterator_to(block));
  by_size_.erase(by_size_.iterator_to(block));
  by_age_.erase(by_age_.iterator_to(block));
  bytes_ -= block.bytes;
}

void* KeptBlocks::take(std::uint64_t bytes) noexcept {
  const auto found = by_size_.lower_bound(bytes, Smaller{});
  if (found == by_size_.end()) return nullptr;
  Block& block = *found;
  if (const std::uint64_t rest = block.bytes - bytes; rest != 0) insert(block.begin() + bytes, rest, &block);
  remove(block);
  return &block;
}

void KeptBlocks::add(void* given, std::uint64_t bytes) noexcept {
  auto* begin = static_cast<std::uint8_t*>(given);
  Block& block = insert(begin, bytes, nullptr);
  const auto at = by_address_.iterator_to(block);
  std::uint8_t* end = block.end();
  Block* const after = std::next(at) != by_address_.end() && std::next(at)->begin() == end ? &*std::next(at) : nullptr;
  Block* const before = at != by_address_.begin() && std::prev(at)->end() == begin ? &*std::prev(at) : nullptr;
  if (!before && !after) return;
  remove(block);
  if (after) {
    end = after->end();
    remove(*after);
  }
  if (before) {
    begin = before->begin();
    remove(*before);
  }
  insert(begin, static_cast<std::uint64_t>(end - begin), nullptr);
}

void KeptBlocks::drop_until(std::uint64_t bytes) noexcept {
  while (bytes_ > bytes) {
    Block& block = by_age_.front();
    const std::uint64_t excess = std::min((bytes_ - bytes + page - 1) / page * page, block.bytes), rest = block.bytes - excess;
    std::uint8_t* const begin = block.begin();
    if (rest != 0) {
      Block* const next = by_age_.size() > 1 ? &*std::next(by_age_.begin()) : nullptr;
      remove(block);
      insert(begin, rest, next);
    } else {
      remove(block);
    }
    munmap(begin + rest, excess);
  }
}

}  // namespace sluice
