// Implements image_size.hpp after ITU-T T.81 (B.1, B.2), the PNG specification (5.2, 11.2.2) and BITMAPINFOHEADER.
#include "image_size.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace sluice::decode {

namespace {

using Bytes = std::span<const std::uint8_t>;

std::int64_t big(Bytes bytes, std::size_t at, std::size_t count) {
  std::int64_t value = 0;
  for (std::size_t i = 0; i < count; ++i) value = value << 8 | bytes[at + i];
  return value;
}

std::int64_t little(Bytes bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 4; i-- > 0;) value = value << 8 | bytes[at + i];
  return static_cast<std::int32_t>(value);
}

// Segment after segment to the one that begins a frame.
std::optional<Size> jpeg_size(Bytes bytes) {
  for (std::size_t at = 2; at + 9 < bytes.size();) {
    if (bytes[at] != 0xFF) return std::nullopt;
    const auto marker = bytes[at + 1];
    if (marker == 0xFF) {  // padding
      ++at;
      continue;
    }
    const bool frame = marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
    if (frame) return Size{big(bytes, at + 5, 2), big(bytes, at + 7, 2)};
    if (marker == 0xD9 || marker == 0xDA) return std::nullopt;
    at += 2 + static_cast<std::size_t>(big(bytes, at + 2, 2));
  }
  return std::nullopt;
}

}  // namespace

std::optional<Size> image_size(Bytes bytes) {
  static constexpr std::uint8_t png[] = {0x89, 'P', 'N', 'G', 13, 10, 26, 10};
  if (bytes.size() >= 3 && bytes[0] == 0xFF && bytes[1] == 0xD8 && bytes[2] == 0xFF) return jpeg_size(bytes);
  if (bytes.size() >= 24 && std::equal(std::begin(png), std::end(png), bytes.begin())) return Size{big(bytes, 20, 4), big(bytes, 16, 4)};
  if (bytes.size() >= 26 && bytes[0] == 'B' && bytes[1] == 'M') return Size{std::abs(little(bytes, 22)), little(bytes, 18)};
  return std::nullopt;
}

}  // namespace sluice::decode
