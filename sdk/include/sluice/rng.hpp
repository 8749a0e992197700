// Random numbers that depend on (seed, stage, epoch, sample, draw) and on nothing else: not on threads, not on timing.
// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include <sluice/abi.hpp>

namespace sluice {

// splitmix64's finaliser (Steele, Lea, Flood, OOPSLA 2014): a bijection that mixes all bits.
constexpr std::uint64_t mix_bits(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

constexpr std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53u} * counter[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
               static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

class Rng {
 public:
  explicit constexpr Rng(abi::RandomKey key) : key_(key) {}

  // 64 random bits; the n-th call on equal keys gives equal bits.
  constexpr std::uint64_t bits() {
    const auto out = philox({draw_++, key_.epoch, static_cast<std::uint32_t>(key_.sample),
                             static_cast<std::uint32_t>(key_.sample >> 32)},
                            {static_cast<std::uint32_t>(key_.key) ^ (key_.stream * 0x85ebca6bu),
                             static_cast<std::uint32_t>(key_.key >> 32)});
    return (std::uint64_t{out[1]} << 32) | out[0];
  }

  // Uniform in [0, 1), 53 bits.
  constexpr double uniform() { return static_cast<double>(bits() >> 11) * 0x1.0p-53; }

  // Uniform in [low, high).
  constexpr double uniform(double low, double high) { return low + (high - low) * uniform(); }

  // Uniform in {0, ..., n - 1}, without bias (Lemire 2019); n > 0.
  constexpr std::int64_t index(std::int64_t n) {
    const auto range = static_cast<std::uint64_t>(n);
    const std::uint64_t reject_below = (0 - range) % range;
    for (;;) {
      const Wide wide = static_cast<Wide>(bits()) * range;
      if (static_cast<std::uint64_t>(wide) >= reject_below) return static_cast<std::int64_t>(wide >> 64);
    }
  }

  constexpr bool chance(double p) { return uniform() < p; }

  // Standard normal (Box and Muller 1958), two draws a call.
  double normal() {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return radius * std::cos(6.283185307179586 * uniform());
  }

 private:
  __extension__ using Wide = unsigned __int128;

  abi::RandomKey key_;
  std::uint32_t draw_ = 0;
};

}  // namespace sluice
