// A random region by share of the area and ratio of the sides, as torchvision draws it for its crops and erasures.
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include <sluice/error.hpp>
#include <sluice/rng.hpp>

#include "frame_size.hpp"

namespace sluice {

// The fields `scale` and `ratio`: [low, high], above zero. Throws Code::configuration.
inline void must_be_range(const std::vector<double>& range, const std::string& name, double most) {
  if (range.size() != 2 || !(range[0] > 0) || !(range[1] >= range[0]) || range[1] > most)
    throw Error(Code::configuration, name + " must be [low, high] with 0 < low <= high" + (most < 1e6 ? " <= " + std::to_string(static_cast<int>(most)) : ""));
}

// Height and width for an area drawn uniformly and a ratio (width to height) drawn uniformly in its logarithm.
inline Size draw_size(const Size& frame, const std::vector<double>& scale, const std::vector<double>& ratio, Rng& rng) {
  const double area = static_cast<double>(frame.height * frame.width) * rng.uniform(scale[0], scale[1]);
  const double shape = std::exp(rng.uniform(std::log(ratio[0]), std::log(ratio[1])));
  return {std::llrint(std::sqrt(area / shape)), std::llrint(std::sqrt(area * shape))};
}

// Anywhere inside of the frame.
inline Region place(const Size& frame, const Size& region, Rng& rng) {
  const auto top = rng.index(frame.height - region.height + 1);
  return {top, rng.index(frame.width - region.width + 1), region};
}

}  // namespace sluice
