// How a stored picture has to be turned and mirrored to be shown.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace sluice::decode {

// shown(y, x) = stored(r, c) where (r, c) is (x, y) if transpose, else (y, x); then r and c count from the far end if flipped.
struct Orientation {
  bool transpose = false;
  bool flip_rows = false;
  bool flip_columns = false;

  [[nodiscard]] bool identity() const { return !transpose && !flip_rows && !flip_columns; }
  friend bool operator==(const Orientation&, const Orientation&) = default;
};

// Of a container's 3x3 display matrix, as ffmpeg's autorotate reads it; other angles than quarter turns are left alone.
Orientation orientation_of(const std::int32_t (&matrix)[9]);

// Copies a plane of stored height x width elements of N bytes into the shown plane.
template <std::size_t N>
void orient(const Orientation& turn, const std::uint8_t* from, std::ptrdiff_t from_stride, std::int64_t height, std::int64_t width,
            std::uint8_t* to, std::ptrdiff_t to_stride) {
  const std::int64_t rows = turn.transpose ? width : height;
  const std::int64_t columns = turn.transpose ? height : width;
  for (std::int64_t y = 0; y < rows; ++y) {
    std::int64_t r = turn.transpose ? 0 : y;
    std::int64_t c = turn.transpose ? y : 0;
    if (turn.flip_rows) r = height - 1 - r;
    if (turn.flip_columns) c = width - 1 - c;
    const std::uint8_t* source = from + r * from_stride + c * static_cast<std::ptrdiff_t>(N);
    std::uint8_t* target = to + y * to_stride;
    const std::ptrdiff_t step = turn.transpose ? (turn.flip_rows ? -from_stride : from_stride)
                                               : static_cast<std::ptrdiff_t>(N) * (turn.flip_columns ? -1 : 1);
    if (step == static_cast<std::ptrdiff_t>(N)) {
      std::memcpy(target, source, static_cast<std::size_t>(columns) * N);
    } else {
      for (std::int64_t x = 0; x < columns; ++x) std::memcpy(target + x * static_cast<std::ptrdiff_t>(N), source + x * step, N);
    }
  }
}

}  // namespace sluice::decode
