// Frames spread over a whole video.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace sluice {

// n positions from 0 to length - 1 at even distances, the first and the last included: pytorchvideo's
// uniform_temporal_subsample, linspace(0, length - 1, n).long(), which cuts off. In integers, so that no rounding of a
// float decides. `round`: to the nearest instead, halves up.
inline std::vector<std::int64_t> spread_evenly(std::int64_t length, std::int64_t n, bool round) {
  std::vector<std::int64_t> positions;
  positions.reserve(static_cast<std::size_t>(n));
  const auto gaps = n - 1;
  for (std::int64_t i = 0; i < n; ++i) positions.push_back(gaps == 0 ? 0 : (i * (length - 1) * 2 + (round ? gaps : 0)) / (2 * gaps));
  return positions;
}

}  // namespace sluice
