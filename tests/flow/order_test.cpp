// The shuffle and the keys: a bijection for every size, even enough, and independent of everything but seed, epoch and index.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <vector>

#include "framework/flow/order.hpp"

using namespace sluice;

namespace {

bool is_bijection(std::int64_t n, std::uint64_t seed, std::uint64_t epoch) {
  const Shuffle shuffle(n, seed, epoch);
  std::vector<bool> hit(static_cast<std::size_t>(n), false);
  for (std::int64_t i = 0; i < n; ++i) {
    const auto to = shuffle(i);
    if (to < 0 || to >= n || hit[static_cast<std::size_t>(to)]) return false;
    hit[static_cast<std::size_t>(to)] = true;
  }
  return true;
}

// Pearson's statistic against equal expectations, in standard deviations from its mean (normal for many cells).
double surprise(const std::vector<std::int64_t>& counts, double expected) {
  double chi = 0;
  for (const auto count : counts) chi += (static_cast<double>(count) - expected) * (static_cast<double>(count) - expected) / expected;
  const auto freedom = static_cast<double>(counts.size() - 1);
  return (chi - freedom) / std::sqrt(2 * freedom);
}

}  // namespace

TEST_CASE("a bijection for every N from 1 to 2000, and for a million") {
  for (std::int64_t n = 1; n <= 2000; ++n) CHECK_MESSAGE(is_bijection(n, 7, static_cast<std::uint64_t>(n % 5)), n);
  CHECK(is_bijection(1000000, 1, 3));
}

TEST_CASE("all 120 orders of five samples come equally often over the epochs") {
  // Catches: a permutation that only reaches the even half, or favours some orders.
  std::map<std::vector<std::int64_t>, std::int64_t> seen;
  constexpr int epochs = 24000;
  for (int epoch = 0; epoch < epochs; ++epoch) {
    const Shuffle shuffle(5, 42, static_cast<std::uint64_t>(epoch));
    std::vector<std::int64_t> order;
    for (std::int64_t i = 0; i < 5; ++i) order.push_back(shuffle(i));
    ++seen[order];
  }
  CHECK(seen.size() == 120);
  std::vector<std::int64_t> counts;
  for (const auto& [order, count] : seen) counts.push_back(count);
  CHECK(std::abs(surprise(counts, epochs / 120.0)) < 5);
}

TEST_CASE("every sample comes to every position equally often, and neighbours do not stay together") {
  for (const std::int64_t n : {16, 37, 64, 100}) {
    const auto size = static_cast<std::size_t>(n);
    std::vector<std::int64_t> places(size * size, 0), steps(size, 0);
    constexpr int epochs = 4000;
    for (int epoch = 0; epoch < epochs; ++epoch) {
      const Shuffle shuffle(n, 3, static_cast<std::uint64_t>(epoch));
      std::int64_t before = shuffle(n - 1);
      for (std::int64_t i = 0; i < n; ++i) {
        const auto to = shuffle(i);
        ++places[static_cast<std::size_t>(i) * size + static_cast<std::size_t>(to)];
        ++steps[static_cast<std::size_t>((to - before + n) % n)];
        before = to;
      }
    }
    INFO("n = " << n);
    CHECK(std::abs(surprise(places, epochs / static_cast<double>(n))) < 5);
    CHECK(steps[0] == 0);
    steps.erase(steps.begin());
    CHECK(std::abs(surprise(steps, epochs * static_cast<double>(n) / static_cast<double>(n - 1))) < 5);
  }
}

TEST_CASE("a million samples: the first hundred thousand of an epoch spread over the whole set") {
  const Shuffle shuffle(1000000, 9, 0);
  std::vector<std::int64_t> cells(1000, 0);
  for (std::int64_t i = 0; i < 100000; ++i) ++cells[static_cast<std::size_t>(shuffle(i) / 1000)];
  // Without replacement the variance is smaller by (1 - 0.1): the statistic lies below its mean, never far above.
  CHECK(surprise(cells, 100) < 5);
  CHECK(surprise(cells, 100) > -8);
}

TEST_CASE("the order is fixed: a change of it would break the resume of every run") {
  const Shuffle shuffle(10, 1, 2);
  std::vector<std::int64_t> order;
  for (std::int64_t i = 0; i < 10; ++i) order.push_back(shuffle(i));
  CHECK(order == std::vector<std::int64_t>{6, 2, 1, 5, 3, 7, 0, 8, 9, 4});
  CHECK(stage_key(1, "augment.hflip") == 0xa4dbab5589f171e3u);
  CHECK(sample_key(1, 2, 3) == 0x6431b08061a8aeb7u);
}

TEST_CASE("keys differ in seed, name, occurrence, epoch and index") {
  std::set<std::uint64_t> keys;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    for (const char* name : {"a", "b", "ab", "a#2", "a#3", "", "augment.hflip", "augment.hflip#2"}) keys.insert(stage_key(seed, name));
    for (std::uint64_t epoch = 0; epoch < 20; ++epoch)
      for (std::int64_t index = 0; index < 20; ++index) keys.insert(sample_key(seed, epoch, index));
  }
  CHECK(keys.size() == 20 * (8 + 400));
}
