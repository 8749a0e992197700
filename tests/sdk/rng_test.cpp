// Rng: Philox against its authors' known answers, and the properties that stages rely on.
#include <doctest/doctest.h>

#include <cmath>
#include <set>
#include <vector>

#include <sluice/rng.hpp>

using sluice::Rng;
using sluice::abi::RandomKey;

// Known answers of Random123 (file kat_vectors, philox4x32 with 10 rounds). Catches any slip in rounds, constants or order:
// a wrong generator still looks random, so statistics would not.
TEST_CASE("philox4x32-10 gives the published vectors") {
  using Words = std::array<std::uint32_t, 4>;
  CHECK(sluice::philox({0, 0, 0, 0}, {0, 0}) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  const std::uint32_t ones = 0xffffffff;
  CHECK(sluice::philox({ones, ones, ones, ones}, {ones, ones}) == Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(sluice::philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
  static_assert(sluice::philox({0, 0, 0, 0}, {0, 0})[0] == 0x6627e8d5, "usable at compile time");
}

// The state of splitmix64 seeded with 0: its published first outputs. Catches a changed constant, which would change every run.
TEST_CASE("mix_bits is splitmix64") {
  CHECK(sluice::mix_bits(0) == 0xe220a8397b1dcdafu);
  CHECK(sluice::mix_bits(0x9e3779b97f4a7c15u) == 0x6e789e6aa1b965f4u);
  CHECK(sluice::mix_bits(2 * 0x9e3779b97f4a7c15u) == 0x06c45d188009454fu);
}

TEST_CASE("equal keys give equal numbers; every part of the key and every draw changes them") {
  const RandomKey key{11, 22, 33, 0};
  Rng a(key), b(key);
  for (int i = 0; i < 100; ++i) CHECK(a.bits() == b.bits());

  std::set<std::uint64_t> first;
  const std::vector<RandomKey> keys = {{11, 22, 33, 0}, {12, 22, 33, 0}, {11 + (1ull << 32), 22, 33, 0}, {11, 23, 33, 0}, {11, 22 + (1ull << 32), 33, 0},
                                       {11, 22, 34, 0}, {11, 22, 33, 1}, {11, 22, 33, 2}};
  for (const auto& other : keys) first.insert(Rng(other).bits());
  CHECK(first.size() == keys.size());

  std::set<std::uint64_t> draws;
  Rng many(key);
  for (int i = 0; i < 10000; ++i) draws.insert(many.bits());
  CHECK(draws.size() == 10000);
}

// Chi-square with 99 degrees of freedom: below 149 with a chance of 99.9 %. The keys are fixed, so it cannot flicker.
TEST_CASE("uniform, index and normal have the distributions that they promise") {
  const auto chi_square = [](const std::vector<int>& counts, double expected) {
    double sum = 0;
    for (const int n : counts) sum += (n - expected) * (n - expected) / expected;
    return sum;
  };
  std::vector<int> by_draw(100), by_sample(100), by_index(100);
  Rng rng(RandomKey{1, 0, 0, 0});
  for (std::uint64_t i = 0; i < 100000; ++i) {
    const double u = rng.uniform();
    REQUIRE(u >= 0.0);
    REQUIRE(u < 1.0);
    ++by_draw[static_cast<std::size_t>(u * 100)];
    ++by_sample[static_cast<std::size_t>(Rng(RandomKey{1, i, 0, 0}).uniform() * 100)];  // first draws of neighbouring samples
    ++by_index[static_cast<std::size_t>(rng.index(100))];
  }
  CHECK(chi_square(by_draw, 1000) < 149);
  CHECK(chi_square(by_sample, 1000) < 149);
  CHECK(chi_square(by_index, 1000) < 149);

  double sum = 0, squares = 0;
  for (int i = 0; i < 100000; ++i) {
    const double x = rng.normal();
    REQUIRE(std::isfinite(x));
    sum += x, squares += x * x;
  }
  CHECK(std::abs(sum / 100000) < 0.01);
  CHECK(std::abs(squares / 100000 - 1) < 0.02);

  CHECK(Rng(RandomKey{}).index(1) == 0);
  for (int i = 0; i < 1000; ++i) {
    CHECK(rng.index(std::int64_t{1} << 62) < std::int64_t{1} << 62);
    const double x = rng.uniform(-3, 5);
    CHECK((x >= -3 && x < 5));
  }
  int hits = 0;
  for (int i = 0; i < 10000; ++i) hits += rng.chance(0.25);
  CHECK(std::abs(hits - 2500) < 150);
  for (int i = 0; i < 100; ++i) CHECK((!rng.chance(0) && rng.chance(1)));
}
