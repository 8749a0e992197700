// The order of the samples and the keys of their random numbers: functions of (seed, epoch, index) and of nothing else.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include <sluice/abi.hpp>
#include <sluice/rng.hpp>

namespace sluice {

// A permutation of [0, n), computed one element at a time, without a buffer of n.
// Swap-or-not (Hoang, Morris, Rogaway: "An enciphering scheme based on a card shuffle", CRYPTO 2012): it works on any n, so
// nothing walks cycles, and it reaches odd permutations, which a Feistel network on 2^2k elements never does.
class Shuffle {
 public:
  Shuffle(std::int64_t n, std::uint64_t seed, std::uint64_t epoch) : n_(static_cast<std::uint64_t>(n)) {
    if (n < 2) return;
    const auto key = mix_bits(mix_bits(seed ^ 0x53485546464c4531u) ^ epoch);
    int bits = 0;
    while (((n_ - 1) >> bits) != 0) ++bits;
    rounds_.resize(static_cast<std::size_t>(6 * bits + 24));
    for (std::size_t r = 0; r < rounds_.size(); ++r) {
      rounds_[r].pivot = static_cast<std::uint64_t>((static_cast<Wide>(mix_bits(key + 2 * r)) * n_) >> 64);
      rounds_[r].key = mix_bits(key + 2 * r + 1);
    }
  }

  [[nodiscard]] std::int64_t operator()(std::int64_t position) const {
    auto x = static_cast<std::uint64_t>(position);
    for (const auto& round : rounds_) {
      const auto partner = round.pivot >= x ? round.pivot - x : round.pivot + n_ - x;
      if (mix_bits(round.key ^ (x > partner ? x : partner)) >> 63) x = partner;
    }
    return static_cast<std::int64_t>(x);
  }

 private:
  __extension__ using Wide = unsigned __int128;
  struct Round {
    std::uint64_t pivot;
    std::uint64_t key;
  };
  std::uint64_t n_;
  std::vector<Round> rounds_;
};

// Key of a stage's random numbers. `name` carries the occurrence ("augment.hflip#2"), so that adding a stage changes no other.
[[nodiscard]] inline std::uint64_t stage_key(std::uint64_t seed, std::string_view name) {
  auto hash = mix_bits(seed ^ 0x53544147454b4559u);
  for (const char c : name) hash = mix_bits(hash ^ static_cast<unsigned char>(c));
  return mix_bits(hash ^ name.size());
}

// Key of what the network draws for a sample (dropout).
[[nodiscard]] inline std::uint64_t sample_key(std::uint64_t seed, std::uint64_t epoch, std::int64_t index) {
  return mix_bits(mix_bits(mix_bits(seed ^ 0x4e45544b45595f31u) ^ epoch) ^ static_cast<std::uint64_t>(index));
}

// `stream`: 0, or the number of the stream (from 1) where a stage is `independent`.
[[nodiscard]] inline abi::RandomKey random_key(std::uint64_t stage, std::int64_t sample, std::uint64_t epoch, std::uint32_t stream) {
  return {stage, static_cast<std::uint64_t>(sample), static_cast<std::uint32_t>(epoch), stream};
}

}  // namespace sluice
