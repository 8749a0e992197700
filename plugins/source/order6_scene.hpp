// The scenes of source.order6: three short flashes, a red, a green and a blue one, in one of six orders, anywhere in a long grey video.
// Whole numbers only, so that the same seed gives the same bytes with every compiler and processor.
//
// The label is the order alone: when, where and how bright each flash is follows from (seed, split, index) without it, and every video
// has one of each colour, so no count, no mean over time and no single stretch of a few dozen frames tells. Grey flashes, as many
// and as long, say nothing.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace sluice::order6 {

inline constexpr std::array<std::string_view, 6> orders = {"red_green_blue", "red_blue_green", "green_red_blue", "green_blue_red", "blue_red_green", "blue_green_red"};

struct Flash {
  std::int64_t start = 0, frames = 0;
  std::int64_t top = 0, left = 0, size = 0;  // of its square, in pixels
  std::array<std::int64_t, 3> colour{};      // 0..255
};

struct Scene {
  std::int64_t size = 0;
  std::int64_t grey = 0;           // of the ground
  std::uint64_t grain = 0;         // key of its texture
  std::vector<Flash> flashes;      // by start; they do not overlap
};

// Clip `index` of a set: its order is index % 6. `frames` is the length of the video, at least least_frames.
inline constexpr std::int64_t least_frames = 60;
Scene make_scene(std::uint64_t seed, bool validation, std::uint64_t index, std::int64_t size, std::int64_t frames, std::int64_t flash);

// Frame t as planes of 4:2:0 video (BT.601, limited range), rows of `size` and size / 2 bytes.
struct Planes {
  std::vector<std::uint8_t> luma, blue, red;
};
void draw(const Scene& scene, std::int64_t t, Planes& planes);

}  // namespace sluice::order6
