// The frame pool: rounding, reuse, and that it never holds more than its share.
#include <doctest/doctest.h>

#include <csignal>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <sluice/rng.hpp>

#include "framework/memory/pool.hpp"
#include "framework/memory/process.hpp"
#include "tests/support/death.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

constexpr std::uint64_t any = ~std::uint64_t{0};
constexpr std::uint64_t MiB = 1 << 20;

void release(const abi::Block& block) { block.release(block.owner, block.data, block.bytes); }

}  // namespace

TEST_CASE("rounding: whole pages, never less than asked for, at most an eighth more from 32 KiB on") {
  Rng rng(abi::RandomKey{1, 0, 0, 0});
  for (int i = 0; i < 20000; ++i) {
    const auto bytes = (rng.bits() >> 1) >> (rng.bits() % 63);
    const auto rounded = FramePool::rounded(bytes);
    CHECK_MESSAGE((bytes > (std::uint64_t{1} << 62) || (rounded >= bytes && rounded % FramePool::page == 0 && rounded >= FramePool::page)), bytes);
    if (bytes >= 32768) CHECK_MESSAGE(rounded - bytes <= bytes / 8, bytes);
    CHECK(FramePool::rounded(rounded) == rounded);  // a block that is put back by its size finds the same class
  }
  CHECK(FramePool::rounded(0) == 4096);
  CHECK(FramePool::rounded(4096) == 4096);
  CHECK(FramePool::rounded(4097) == 8192);
}

TEST_CASE("blocks are counted by their maker and reused") {
  FramePool pool(MiB);
  const auto tally = std::make_shared<Tally>(3);
  const auto a = pool.allocate(5000, tally, 1, any);
  REQUIRE(a);
  CHECK(a->bytes == 5000);
  CHECK(reinterpret_cast<std::uintptr_t>(a->data) % FramePool::page == 0);
  CHECK(tally->live(1) == 8192);
  CHECK(tally->live(2) == 0);
  CHECK(pool.find(a->data)->bytes == 8192);
  CHECK_FALSE(pool.find(static_cast<char*>(a->data) + 1));
  CHECK_FALSE(pool.allocate(1, tally, 1, 8192 + 4095));  // beyond the allowance
  release(*a);
  CHECK(tally->live(1) == 0);
  CHECK(pool.counters().kept == 8192);
  const auto b = pool.allocate(8000, tally, 2, any);
  CHECK(b->data == a->data);
  CHECK(pool.counters().reused == 1);
  release(*b);
}

TEST_CASE("live and kept bytes together never exceed the limit, whatever the sizes") {
  // Catches: a cache that keeps every size it has ever seen, beside what lives.
  constexpr std::uint64_t limit = 4 * MiB;
  FramePool pool(limit);
  const auto tally = std::make_shared<Tally>(1);
  Rng rng(abi::RandomKey{2, 0, 0, 0});
  std::vector<abi::Block> live;
  std::uint64_t live_bytes = 0, outside = 0;
  for (int i = 0; i < 20000; ++i) {
    const auto bytes = 1 + rng.bits() % (std::uint64_t{1} << (10 + rng.bits() % 10));
    const auto what = rng.index(5);
    if (what < 2 && live_bytes + outside + FramePool::rounded(bytes) <= limit) {
      const auto block = pool.allocate(bytes, tally, 0, any);
      REQUIRE(block);
      static_cast<char*>(block->data)[0] = 1;
      static_cast<char*>(block->data)[bytes - 1] = 1;
      live.push_back(*block);
      live_bytes += FramePool::rounded(bytes);
    } else if (what == 2 && live_bytes + outside + bytes <= limit) {
      pool.claim_outside(bytes);
      outside += bytes;
    } else if (what == 3 && outside > 0) {
      const auto back = 1 + rng.bits() % outside;
      pool.return_outside(back);
      outside -= back;
    } else if (!live.empty()) {
      const auto at = static_cast<std::size_t>(rng.index(static_cast<std::int64_t>(live.size())));
      live_bytes -= FramePool::rounded(live[at].bytes);
      release(live[at]);
      live[at] = live.back();
      live.pop_back();
    }
    const auto now = pool.counters();
    REQUIRE(now.live == live_bytes);
    REQUIRE(now.blocks == live.size());
    REQUIRE(now.live + now.kept <= limit);
    REQUIRE(now.live + now.kept + now.outside <= limit);
  }
  for (const auto& block : live) release(block);
  CHECK(pool.counters().live == 0);
  CHECK(tally->live(0) == 0);
  CHECK(pool.counters().peak <= limit);
  CHECK(pool.counters().reused > 1000);
}

TEST_CASE("the pool's share is what the system sees: resident memory follows, and comes back") {
  // Catches: a pool over malloc, whose fragments stay.
  constexpr std::uint64_t limit = 64 * MiB;
  pin_malloc();
  const auto before = resident_bytes();
  {
    FramePool pool(limit);
    const auto tally = std::make_shared<Tally>(1);
    Rng rng(abi::RandomKey{3, 0, 0, 0});
    std::vector<abi::Block> live;
    std::uint64_t held = 0, most = 0;
    for (int i = 0; i < 1500; ++i) {
      const auto bytes = 1000 + rng.bits() % (4 * MiB);
      while (held + FramePool::rounded(bytes) > limit) {
        held -= FramePool::rounded(live.front().bytes);
        release(live.front());
        live.erase(live.begin());
      }
      live.push_back(*pool.allocate(bytes, tally, 0, any));
      held += FramePool::rounded(bytes);
      for (std::uint64_t at = 0; at < bytes; at += 4096) static_cast<char*>(live.back().data)[at] = 1;
      if (i % 50 == 0) most = std::max(most, resident_bytes());
    }
    for (const auto& block : live) release(block);
    CHECK(most <= before + limit + 2 * MiB);
    CHECK(most >= before + limit / 2);
  }
  CHECK(resident_bytes() <= before + 2 * MiB);
}

TEST_CASE("blocks outlive their pool") {
  const auto tally = std::make_shared<Tally>(1);
  std::optional<abi::Block> block;
  {
    FramePool pool(MiB);
    block = pool.allocate(10000, tally, 0, any);
  }
  static_cast<char*>(block->data)[9999] = 1;
  release(*block);
  CHECK(tally->live(0) == 0);
}

TEST_CASE("threads share a pool") {
  FramePool pool(8 * MiB);
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 7; ++t)
      threads.emplace_back([&pool, t] {
        const auto tally = std::make_shared<Tally>(1);
        Rng rng(abi::RandomKey{4, static_cast<std::uint64_t>(t), 0, 0});
        for (int i = 0; i < 2000; ++i) {
          const auto block = pool.allocate(1 + rng.bits() % MiB, tally, 0, any);
          static_cast<char*>(block->data)[0] = static_cast<char>(t);
          if (static_cast<char*>(block->data)[0] != static_cast<char>(t)) std::abort();
          release(*block);
        }
      });
  }
  CHECK(pool.counters().live == 0);
  CHECK(pool.counters().peak <= 8 * MiB);
}

TEST_CASE("planted: a block released twice ends the process") {
  CHECK(signal_of([] {
          FramePool pool(MiB);
          const auto tally = std::make_shared<Tally>(1);
          static_cast<void>(pool.allocate(1, tally, 0, any));  // keeps the pool from being empty
          const auto block = pool.allocate(1, tally, 0, any);
          release(*block);
          release(*block);
        }) == SIGABRT);
}
