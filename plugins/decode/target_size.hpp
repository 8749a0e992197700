// The size that a decoder delivers: native, a given one, or a given short side. Shared by the decoders.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include <sluice/error.hpp>

#include "limits.hpp"

namespace sluice::decode {

struct Size {
  std::int64_t height = 0;
  std::int64_t width = 0;
  friend bool operator==(const Size&, const Size&) = default;
};

// `short_side`: the shorter side becomes it, the other follows, rounded to the nearest (halves up). `size`: height and
// width exactly, the aspect may change. Small pictures are enlarged.
inline Size target_size(Size native, const std::optional<std::int64_t>& short_side, const std::vector<std::int64_t>& size) {
  if (!size.empty()) return {size[0], size[1]};
  if (!short_side || native.height <= 0 || native.width <= 0) return native;
  const auto follow = [&](std::int64_t longer, std::int64_t shorter) {
    return std::max<std::int64_t>(1, (2 * longer * *short_side + shorter) / (2 * shorter));
  };
  if (native.height <= native.width) return {*short_side, follow(native.width, native.height)};
  return {follow(native.height, native.width), *short_side};
}

// For check(): what of these fields contradicts each other or itself.
inline void check_target(const std::optional<std::int64_t>& short_side, const std::vector<std::int64_t>& size) {
  if (size.empty()) return;
  if (short_side) throw Error(Code::configuration, "short_side and size exclude each other", "remove one of them");
  if (size.size() != 2 || size[0] < 1 || size[1] < 1 || size[0] > max_side || size[1] > max_side)
    throw Error(Code::configuration, "size is [height, width], each between 1 and " + std::to_string(max_side));
}

}  // namespace sluice::decode
