// What the tests of the augmentations share: the message of an error, naive pictures, statistics.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "../support/plugin_host.hpp"

namespace sluice::testing {

// The message of the sluice::Error that `function` throws, which must be of this kind; empty when nothing is thrown.
template <class Function> std::string thrown(Function function, Code code) {
  try {
    function();
  } catch (const Error& error) {
    CHECK(error.code() == code);
    return error.message();
  }
  return {};
}

// A clip by a formula: expected(t, y, x, c) is what each byte should be. Counts the bytes that differ.
template <class Expected> std::int64_t differing(FakeSample& sample, const std::string& stream, Expected expected) {
  const auto shape = sample.shape(stream);
  const auto bytes = sample.bytes(stream);
  std::int64_t wrong = 0;
  std::size_t i = 0;
  for (std::int64_t t = 0; t < shape[0]; ++t)
    for (std::int64_t y = 0; y < shape[1]; ++y)
      for (std::int64_t x = 0; x < shape[2]; ++x)
        for (std::int64_t c = 0; c < shape[3]; ++c) wrong += bytes[i++] != static_cast<std::uint8_t>(expected(t, y, x, c));
  return wrong;
}

// Pearson's chi-square against equal counts, in units of its 99.9 % point: above 1 is improbable.
inline double unevenness(const std::vector<int>& counts) {
  double all = 0, sum = 0;
  for (const int n : counts) all += n;
  const double expected = all / static_cast<double>(counts.size());
  for (const int n : counts) sum += (n - expected) * (n - expected) / expected;
  const double freedom = static_cast<double>(counts.size()) - 1, a = 2 / (9 * freedom);
  return sum / (freedom * std::pow(1 - a + 3.09 * std::sqrt(a), 3));
}

// Largest distance of two samples' distribution functions, in units of its 99.9 % point (Kolmogorov and Smirnov).
inline double distance(std::vector<double> a, std::vector<double> b) {
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  double most = 0;
  for (std::size_t i = 0, k = 0; i < a.size() && k < b.size();) {
    const double x = std::min(a[i], b[k]);
    while (i < a.size() && a[i] <= x) ++i;
    while (k < b.size() && b[k] <= x) ++k;
    most = std::max(most, std::abs(static_cast<double>(i) / static_cast<double>(a.size()) - static_cast<double>(k) / static_cast<double>(b.size())));
  }
  const double n = static_cast<double>(a.size()), m = static_cast<double>(b.size());
  return most / (1.95 * std::sqrt((n + m) / (n * m)));
}

}  // namespace sluice::testing
