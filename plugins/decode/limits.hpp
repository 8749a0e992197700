// What is refused before memory is taken for it: a file of a few kilobytes can declare pictures of gigabytes.
#pragma once

#include <cstdint>
#include <string>

#include <sluice/error.hpp>

namespace sluice::decode {

inline constexpr std::int64_t max_side = 16384;
inline constexpr std::int64_t max_pixels = std::int64_t{1} << 26;  // twice 8K

inline void check_size(const std::string& name, std::int64_t width, std::int64_t height) {
  if (width <= 0 || height <= 0) throw Error(Code::data, name + ": it does not say how large its pictures are");
  if (width > max_side || height > max_side || width * height > max_pixels)
    throw Error(Code::data,
                name + ": its pictures are said to be " + std::to_string(width) + "x" + std::to_string(height) + "; at most " +
                    std::to_string(max_side) + " a side and " + std::to_string(max_pixels) + " pixels are decoded",
                "scale it down beforehand: ffmpeg -i IN -vf scale=1920:-2 OUT");
}

}  // namespace sluice::decode
