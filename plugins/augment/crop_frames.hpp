// Cuts a region out of every frame, and makes up what lies beyond the edges.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>

#include <sluice/clip.hpp>

#include "frame_size.hpp"

namespace sluice {

enum class Fill { zero, edge, reflect };

inline Fill fill_of(std::string_view name) { return name == "edge" ? Fill::edge : name == "reflect" ? Fill::reflect : Fill::zero; }

// Where position i of a line that goes on beyond [0, n) is taken from; -1: nowhere, it is black. reflect: the edge's own
// pixel is not repeated (numpy's "reflect").
inline std::int64_t source_of(std::int64_t i, std::int64_t n, Fill fill) {
  if (i >= 0 && i < n) return i;
  if (fill == Fill::zero) return -1;
  if (fill == Fill::edge || n == 1) return std::clamp<std::int64_t>(i, 0, n - 1);
  const auto period = 2 * (n - 1), at = ((i % period) + period) % period;
  return at < n ? at : period - at;
}

// A new clip, one copy. A clip whose frames are the region comes back as it is.
inline Clip cropped(Clip clip, const Region& region, Fill fill) {
  const auto [height, width] = region.size;
  if (region.top == 0 && region.left == 0 && height == clip.height() && width == clip.width()) return clip;
  auto out = clip.make(clip.frames(), height, width);
  const auto inside_from = std::clamp<std::int64_t>(-region.left, 0, width);
  const auto inside_to = std::clamp(clip.width() - region.left, inside_from, width);
  for (std::int64_t t = 0; t < clip.frames(); ++t) {
    const auto from = clip.frame(t), to = out.frame(t);
    for (std::int64_t y = 0; y < height; ++y) {
      const auto row = source_of(region.top + y, from.height, fill);
      if (row < 0) {
        std::memset(to.row(y), 0, static_cast<std::size_t>(to.row_bytes()));
        continue;
      }
      if (inside_to > inside_from)
        std::memcpy(to.at(y, inside_from), from.at(row, region.left + inside_from), static_cast<std::size_t>((inside_to - inside_from) * from.channels));
      const auto beyond = [&](std::int64_t x) {
        const auto column = source_of(region.left + x, from.width, fill);
        if (column < 0) std::memset(to.at(y, x), 0, static_cast<std::size_t>(from.channels));
        else std::memcpy(to.at(y, x), from.at(row, column), static_cast<std::size_t>(from.channels));
      };
      for (std::int64_t x = 0; x < inside_from; ++x) beyond(x);
      for (std::int64_t x = inside_to; x < width; ++x) beyond(x);
    }
  }
  return out;
}

// For frames that are smaller than the crop: an error that says both sizes.
inline Error does_not_fit(const Size& crop, const Size& frame) {
  return Error(Code::data, "a crop of " + crop.text() + " does not fit into frames of " + frame.text(),
               "put augment.resize with short_side = " + std::to_string(std::max(crop.height, crop.width)) + " before it, or set too_small = \"pad\"");
}

}  // namespace sluice
