// How bright a pixel is, as torchvision's rgb_to_grayscale has it for uint8: weights of BT.601, cut off, not rounded.
#pragma once

#include <cstdint>

namespace sluice {

// 0.2989 r + 0.587 g + 0.114 b, in whole numbers: exact, where floats would differ by the compiler's order of adding.
constexpr std::uint8_t luminance(const std::uint8_t* rgb) {
  return static_cast<std::uint8_t>((2989u * rgb[0] + 5870u * rgb[1] + 1140u * rgb[2]) / 10000u);
}

}  // namespace sluice
