// The scenes of source.motion8: a textured patch moves in one of eight directions over a background that moves too.
// Whole numbers only, so that the same seed gives the same bytes with every compiler and processor.
//
// One frame says nothing about the direction: patch and background start anywhere on a torus, with equal chance, and wrap
// round, so that at every frame their places are spread the same way whatever the direction; speed, size, texture and
// colours are drawn without looking at the label; nothing is blurred by its motion.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace sluice::motion8 {

inline constexpr std::array<std::string_view, 8> directions = {"left", "right", "up", "down", "up_left", "up_right", "down_left", "down_right"};

// A point or a velocity in 1/256 pixel; x to the right, y downwards.
struct Vector {
  std::int64_t x = 0;
  std::int64_t y = 0;
};

// RGB, size x size.
struct Texture {
  std::int64_t size = 0;
  std::vector<std::uint8_t> pixels;
};

struct Scene {
  std::int64_t size = 0;      // of the frame, in pixels
  int direction = 0;          // of `directions`
  bool round = true;          // a disc, or a square
  std::int64_t radius = 0;    // of the patch, in 1/256 pixel
  Vector start, velocity;     // of the patch's centre, at frame 0 and in a frame
  Vector ground_start, ground_velocity;
  Texture patch, ground;
};

// Clip `index` of a set: its direction is index % 8, all else follows from (seed, validation, index) alone.
Scene make_scene(std::uint64_t seed, bool validation, std::uint64_t index, std::int64_t size);

// Frame t as planes of 4:2:0 video (BT.601, limited range): size x size luma, then twice a quarter of chroma.
struct Planes {
  std::vector<std::uint8_t> luma, blue, red;
};
void draw(const Scene& scene, std::int64_t t, Planes& planes);

}  // namespace sluice::motion8
