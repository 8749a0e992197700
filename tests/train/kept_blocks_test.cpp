// Kept blocks against a shadow: whose byte is whose, how many are kept, and what is left in the process.
#include "framework/train/kept_blocks.hpp"

#include <doctest/doctest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

using namespace sluice;

namespace {

constexpr std::uint64_t page = KeptBlocks::page;

std::uint8_t* map(std::uint64_t bytes) {
  void* block = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(block != MAP_FAILED);
  return static_cast<std::uint8_t*>(block);
}

// Whether every page of the range is mapped.
bool mapped(std::uint8_t* block, std::uint64_t bytes) {
  std::vector<unsigned char> present(bytes / page);
  return mincore(block, bytes, present.data()) == 0;
}

struct Live {
  std::uint8_t* block;
  std::uint64_t bytes;
  std::uint8_t mark;
  void write() const {
    for (std::uint64_t at = 0; at < bytes; at += page) block[at] = block[at + page - 1] = mark;
  }
  [[nodiscard]] bool whole() const {
    for (std::uint64_t at = 0; at < bytes; at += page)
      if (block[at] != mark || block[at + page - 1] != mark) return false;
    return true;
  }
};

}  // namespace

// Mistakes caught: a block that is handed out twice, neighbours joined across somebody else's pages, a live page given back.
TEST_CASE("nobody's bytes change, whatever is taken, freed, split, joined and dropped") {
  for (const unsigned seed : {1U, 2U, 3U, 4U}) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    KeptBlocks kept;
    std::vector<Live> live;
    std::uint64_t expected = 0;
    for (int i = 0; i < 4000; ++i) {
      const std::uint64_t bytes = page * (1 + random() % (random() % 4 == 0 ? 300 : 20));
      switch (random() % 8) {
        case 0: {
          const std::uint64_t rest = expected - std::min(expected, page * (random() % 200));
          kept.drop_until(rest);
          expected = rest;
          break;
        }
        case 1:
        case 2:
        case 3:
          if (auto* block = static_cast<std::uint8_t*>(kept.take(bytes))) {
            expected -= bytes;
            live.push_back({block, bytes, static_cast<std::uint8_t>(random())});
          } else {
            live.push_back({map(bytes), bytes, static_cast<std::uint8_t>(random())});
          }
          REQUIRE(mapped(live.back().block, bytes));
          live.back().write();
          break;
        default:
          if (live.empty()) break;
          const auto at = live.begin() + static_cast<std::ptrdiff_t>(random() % live.size());
          REQUIRE(at->whole());
          kept.add(at->block, at->bytes);
          expected += at->bytes;
          live.erase(at);
      }
      REQUIRE(kept.bytes() == expected);
    }
    for (const auto& one : live) REQUIRE(one.whole());
    kept.drop_until(0);
    CHECK(kept.bytes() == 0);
    CHECK(kept.take(page) == nullptr);
    for (const auto& one : live) {
      REQUIRE(one.whole());
      munmap(one.block, one.bytes);
    }
  }
}

TEST_CASE("the best fit is split, neighbours join, the oldest goes first") {
  KeptBlocks kept;
  std::uint8_t* all = map(16 * page);
  kept.add(all, 2 * page);
  kept.add(all + 4 * page, 6 * page);
  CHECK(kept.take(7 * page) == nullptr);
  CHECK(kept.take(2 * page) == all);             // not the larger one
  CHECK(kept.take(5 * page) == all + 4 * page);  // the larger one, split
  CHECK(kept.bytes() == page);
  kept.add(all, 2 * page);
  kept.add(all + 4 * page, 5 * page);  // joins the page behind it
  kept.add(all + 2 * page, 2 * page);  // joins both sides
  CHECK(kept.bytes() == 10 * page);
  CHECK(kept.take(10 * page) == all);

  kept.add(all, page);
  kept.add(all + 8 * page, page);
  kept.drop_until(page);
  CHECK(!mapped(all, page));
  CHECK(mapped(all + 8 * page, page));
  kept.drop_until(0);
  munmap(all + page, 15 * page);
}
