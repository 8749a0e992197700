// The ledger: its sum, its order, and the mistakes that it must not survive.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <sluice/error.hpp>

#include "framework/memory/ledger.hpp"
#include "ledger_storm.hpp"
#include "tests/support/death.hpp"

using namespace sluice;
using namespace sluice::testing;
using namespace std::chrono_literals;

static_assert(!std::is_copy_constructible_v<Lease> && !std::is_copy_assignable_v<Lease>, "a copyable lease gives its bytes back twice");
static_assert(std::is_nothrow_move_constructible_v<Lease> && std::is_nothrow_move_assignable_v<Lease>);

TEST_CASE("leases are counted, shrink and come back") {
  Ledger ledger(100);
  auto a = ledger.acquire(60);
  REQUIRE(a);
  CHECK(ledger.used() == 60);
  CHECK_FALSE(ledger.try_acquire(41));
  auto b = ledger.try_acquire(40);
  REQUIRE(b);
  CHECK(ledger.used() == 100);
  a->shrink_to(10);
  CHECK(ledger.used() == 50);
  Lease moved = std::move(*a);
  a.reset();
  CHECK(ledger.used() == 50);
  *b = std::move(moved);  // what b held comes back, what it takes over stays
  CHECK(ledger.used() == 10);
  b->shrink_to(0);
  CHECK(ledger.used() == 0);
  CHECK(ledger.leases() == 0);
  CHECK(ledger.peak() == 100);
  CHECK(ledger.acquire(0)->bytes() == 0);
}

TEST_CASE("more than the cap is refused, not waited for") {
  Ledger ledger(100);
  CHECK_THROWS_AS(static_cast<void>(ledger.acquire(101)), Error);
  CHECK_THROWS_AS(static_cast<void>(ledger.try_acquire(101)), Error);
}

TEST_CASE("first come, first served: a small request does not overtake a large one") {
  // Catches: a large sample that waits for ever while small ones take every byte that is freed.
  Ledger ledger(100);
  auto held = ledger.acquire(60);
  std::atomic<int> order{0};
  int large = 0, small = 0;
  std::thread first([&] {
    const auto lease = ledger.acquire(90);
    large = ++order;
  });
  std::this_thread::sleep_for(20ms);
  CHECK_FALSE(ledger.try_acquire(10));  // would fit, but somebody waits
  std::thread second([&] {
    const auto lease = ledger.acquire(20);
    small = ++order;
  });
  std::this_thread::sleep_for(20ms);
  CHECK(order == 0);
  held.reset();
  first.join();
  second.join();
  CHECK(large == 1);
  CHECK(small == 2);
}

TEST_CASE("stop() and a stop token end the waiting; the next in the queue moves up") {
  Ledger ledger(100);
  auto held = ledger.acquire(90);
  std::stop_source source;
  bool first_got = true, second_got = false;
  std::thread first([&] { first_got = ledger.acquire(100, source.get_token()).has_value(); });
  std::this_thread::sleep_for(20ms);
  std::thread second([&] { second_got = ledger.acquire(10).has_value(); });
  std::this_thread::sleep_for(20ms);
  source.request_stop();
  first.join();
  second.join();
  CHECK_FALSE(first_got);
  CHECK(second_got);
  std::thread third([&] { first_got = ledger.acquire(100).has_value(); });
  std::this_thread::sleep_for(20ms);
  ledger.stop();
  third.join();
  CHECK_FALSE(first_got);
  CHECK_FALSE(ledger.acquire(1));
}

TEST_CASE("planted: a lease that is copied and given back twice ends the process") {
  // The defect that once drove a ledger to -15 GiB without an error. A copy of the bytes is what a copyable lease would be.
  CHECK(signal_of([] {
          Ledger ledger(100);
          auto other = ledger.acquire(50);  // keeps `used` above zero: the sum alone would not notice
          auto lease = ledger.acquire(20);
          alignas(Lease) std::byte copy[sizeof(Lease)];
          std::memcpy(copy, &*lease, sizeof copy);
          lease.reset();
          reinterpret_cast<Lease*>(copy)->shrink_to(0);
        }) == SIGABRT);
}

TEST_CASE("planted: a lease that grows, and one that outlives its ledger, end the process") {
  CHECK(signal_of([] {
          Ledger ledger(100);
          auto lease = ledger.acquire(20);
          lease->shrink_to(21);
        }) == SIGABRT);
  CHECK(signal_of([] {
          auto ledger = std::make_unique<Ledger>(100);
          auto lease = ledger->acquire(20);
          ledger.reset();
        }) == SIGABRT);
  CHECK(signal_of([] { Ledger ledger(1); }) == 0);
}

TEST_CASE("100,000 random operations on 1, 2, 3 and 7 threads lose no byte and never pass the cap") {
  for (const int threads : {1, 2, 3, 7}) CHECK(ledger_storm(threads, 100000 / 4, 11) == "");
}

// Mistake caught: bytes that stay with the decoders after a decoder, or with the samples after they are in a batch; parts that
// are lost or doubled when a lease moves or shrinks, so that the accounts no longer add up.
TEST_CASE("the parts of leases are counted where they belong, and add up") {
  Ledger ledger(100);
  Lease a = std::move(*ledger.acquire(60));
  a.count_as(Account::decoders, 25);
  CHECK(ledger.split() == SampleBytes{25, 35, 0});
  const auto b = ledger.acquire(40);
  CHECK(ledger.split_at_peak() == SampleBytes{25, 75, 0});
  a.count_as(Account::decoders, 0);
  a.shrink_to(20);
  a.count_as(Account::batches, 20);
  CHECK(ledger.split() == SampleBytes{0, 40, 20});
  a.shrink_to(5);  // the rest is gone, then what is counted
  Lease moved = std::move(a);
  CHECK(moved.counted_as(Account::batches) == 5);
  CHECK(ledger.split() == SampleBytes{0, 40, 5});
  moved = Lease();
  CHECK(ledger.split() == SampleBytes{0, 40, 0});
  CHECK(ledger.split_at_peak().total() == ledger.peak());
  CHECK(signal_of([] {
          Ledger small(100);
          auto lease = small.acquire(20);
          lease->count_as(Account::decoders, 15);
          lease->count_as(Account::batches, 6);
        }) == SIGABRT);
  CHECK(name_of(Account::batches) == "batches");
}
