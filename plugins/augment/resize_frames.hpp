// Scales a region of every frame to a size, through OpenCV.
#pragma once

#include <string_view>

#include <sluice/clip.hpp>

#include "frame_size.hpp"

namespace sluice {

enum class Interpolation { automatic, area, linear, cubic, nearest };
inline constexpr std::string_view interpolations = "auto|area|linear|cubic|nearest";
inline constexpr std::string_view interpolation_help = "auto: area where both sides shrink, else linear; area, linear, cubic, nearest as OpenCV has them";
Interpolation interpolation_of(std::string_view name);

// Bytes that OpenCV takes by itself to scale one frame from any size up to `from` to `to`: its tables and rows.
std::uint64_t resize_scratch(const Size& from, const Size& to, std::int64_t channels);

// A new clip. The region lies inside of the frames; pixels outside of it have no influence. Where the region is the whole
// frame and has the size already, the clip comes back as it is.
Clip resized(Clip clip, const Region& region, const Size& to, Interpolation how);

}  // namespace sluice
