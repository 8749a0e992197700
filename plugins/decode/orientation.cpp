// Reads display matrices.
#include "orientation.hpp"

#include <cmath>

extern "C" {
#include <libavutil/display.h>
}

namespace sluice::decode {

Orientation orientation_of(const std::int32_t (&matrix)[9]) {
  const double turned = av_display_rotation_get(matrix);  // degrees against the clock, nan if the matrix is singular
  if (std::isnan(turned)) return {};
  double theta = -std::round(turned);
  theta -= 360 * std::floor(theta / 360 + 0.9 / 360);
  const auto near = [&](double angle) { return std::abs(theta - angle) < 1.0; };
  if (near(90)) return {true, matrix[3] <= 0, false};
  if (near(180)) return {false, matrix[4] < 0, matrix[0] < 0};
  if (near(270)) return {true, matrix[3] < 0, true};
  if (near(0)) return {false, matrix[4] < 0, false};
  return {};
}

}  // namespace sluice::decode
