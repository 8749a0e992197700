// Draws scenes and their frames; see the header for what they promise.
#include "motion8_scene.hpp"

#include <algorithm>

#include <sluice/rng.hpp>

namespace sluice::motion8 {
namespace {

constexpr std::int64_t one = 256;  // a pixel

// Signs of x and y, as `directions` names them.
constexpr std::array<std::array<int, 2>, 8> signs = {{{-1, 0}, {1, 0}, {0, -1}, {0, 1}, {-1, -1}, {1, -1}, {-1, 1}, {1, 1}}};

using Colour = std::array<std::int64_t, 3>;

Colour draw_colour(Rng& rng) { return {rng.index(256), rng.index(256), rng.index(256)}; }

std::int64_t mix(std::int64_t a, std::int64_t b, std::int64_t part) { return (a * (one - part) + b * part + one / 2) / one; }

// Adds periodic value noise of `cells` x `cells` to `sum`, weighted.
void add_noise(std::vector<std::int64_t>& sum, std::int64_t size, std::int64_t cells, std::int64_t weight, Rng& rng) {
  std::vector<std::int64_t> grid(static_cast<std::size_t>(cells * cells));
  for (auto& value : grid) value = rng.index(256);
  const auto at = [&](std::int64_t y, std::int64_t x) { return grid[static_cast<std::size_t>((y % cells) * cells + x % cells)]; };
  for (std::int64_t y = 0; y < size; ++y)
    for (std::int64_t x = 0; x < size; ++x) {
      const auto v = y * cells * one / size, u = x * cells * one / size;
      const auto top = mix(at(v / one, u / one), at(v / one, u / one + 1), u % one);
      const auto bottom = mix(at(v / one + 1, u / one), at(v / one + 1, u / one + 1), u % one);
      sum[static_cast<std::size_t>(y * size + x)] += weight * mix(top, bottom, v % one);
    }
}

// The colour half a turn away in each channel: whatever the draw, a texture of the two is seen.
Colour opposite(Colour colour) { return {(colour[0] + 128) % 256, (colour[1] + 128) % 256, (colour[2] + 128) % 256}; }

// Noise of a coarse and a fine grain between two colours.
Texture make_texture(std::int64_t size, std::int64_t coarse, std::int64_t fine, Colour from, Colour to, Rng& rng) {
  std::vector<std::int64_t> noise(static_cast<std::size_t>(size * size));
  add_noise(noise, size, std::clamp<std::int64_t>(size / coarse, 1, size), 2, rng);
  add_noise(noise, size, std::clamp<std::int64_t>(size / fine, 1, size), 1, rng);
  Texture texture{size, {}};
  texture.pixels.reserve(noise.size() * 3);
  for (const auto sum : noise) {
    const auto part = std::clamp<std::int64_t>((sum / 3 - 64) * 2, 0, 255);  // noise crowds round its mean: spread it
    for (std::size_t c = 0; c < 3; ++c) texture.pixels.push_back(static_cast<std::uint8_t>(mix(from[c], to[c], part)));
  }
  return texture;
}

// A texture moved by a part of a pixel and tiled over its plane. Moving a whole frame moves each pixel by the same part,
// so the four weights are the same for all.
class Moved {
 public:
  // The texture's origin lies at `origin`.
  Moved(const Texture& texture, Vector origin) : texture_(texture) {
    const auto period = texture.size * one;
    const auto u = ((-origin.x % period) + period) % period, v = ((-origin.y % period) + period) % period;
    column_ = u / one, row_ = v / one;
    const auto right = u % one, down = v % one;
    weights_ = {(one - right) * (one - down), right * (one - down), (one - right) * down, right * down};
  }
  // At pixel (x, y) of the frame; x and y within one period of the origin.
  [[nodiscard]] Colour at(std::int64_t x, std::int64_t y) const {
    const auto x0 = wrapped(x + column_), y0 = wrapped(y + row_), x1 = wrapped(x0 + 1), y1 = wrapped(y0 + 1);
    const auto *a = pixel(x0, y0), *b = pixel(x1, y0), *c = pixel(x0, y1), *d = pixel(x1, y1);
    Colour out{};
    for (std::size_t i = 0; i < 3; ++i) out[i] = (a[i] * weights_[0] + b[i] * weights_[1] + c[i] * weights_[2] + d[i] * weights_[3] + one * one / 2) / (one * one);
    return out;
  }

 private:
  [[nodiscard]] std::int64_t wrapped(std::int64_t n) const { return n < 0 ? n + texture_.size : n >= texture_.size ? n - texture_.size : n; }
  [[nodiscard]] const std::uint8_t* pixel(std::int64_t x, std::int64_t y) const { return texture_.pixels.data() + (y * texture_.size + x) * 3; }

  const Texture& texture_;
  std::int64_t column_ = 0, row_ = 0;
  std::array<std::int64_t, 4> weights_{};
};

// The shortest way from `centre` to a point on the torus, along one axis: in [-period / 2, period / 2).
std::int64_t offset(std::int64_t point, std::int64_t centre, std::int64_t period) {
  const auto way = (((point - centre + period / 2) % period) + period) % period;
  return way - period / 2;
}

}  // namespace

Scene make_scene(std::uint64_t seed, bool validation, std::uint64_t index, std::int64_t size) {
  Rng rng(abi::RandomKey{mix_bits(seed ^ 0x6d6f74696f6e38u), index, validation ? 1u : 0u, 0});
  Scene scene;
  scene.size = size;
  scene.direction = static_cast<int>(index % directions.size());
  const auto torus = size * one;
  scene.start = {rng.index(torus), rng.index(torus)};
  scene.ground_start = {rng.index(torus), rng.index(torus)};
  const auto fastest = size;                                                // a quarter of a pixel in a frame of 64
  scene.ground_velocity = {rng.index(2 * fastest + 1) - fastest, rng.index(2 * fastest + 1) - fastest};
  const auto speed = 4 * size + rng.index(6 * size + 1);                    // 1 to 2.5 pixels in a frame of 64
  scene.radius = 72 * size + rng.index(32 * size + 1);                      // 18 to 26 pixels of 64
  scene.round = rng.index(2) == 0;
  const Colour patch = draw_colour(rng), ground = draw_colour(rng), other_ground = draw_colour(rng);
  scene.patch = make_texture(scene.radius * 2 / one + 4, 6, 3, patch, opposite(patch), rng);
  scene.ground = make_texture(size, 16, 8, ground, other_ground, rng);

  const auto& sign = signs[static_cast<std::size_t>(scene.direction)];
  const auto along = sign[0] != 0 && sign[1] != 0 ? (speed * 181 + 128) / 256 : speed;  // 1 / sqrt(2): equal speed on diagonals
  scene.velocity = {sign[0] * along, sign[1] * along};
  return scene;
}

void draw(const Scene& scene, std::int64_t t, Planes& planes) {
  const auto size = scene.size, torus = size * one;
  const Vector centre{scene.start.x + t * scene.velocity.x, scene.start.y + t * scene.velocity.y};
  const Vector ground{scene.ground_start.x + t * scene.ground_velocity.x, scene.ground_start.y + t * scene.ground_velocity.y};
  const auto radius = scene.radius;
  const auto margin = radius + one;  // from the patch's centre to its texture's corner: half a pixel of edge, and some
  const auto part = [&](std::int64_t c) { return (((margin - c) % one) + one) % one; };
  const Moved patch(scene.patch, {-part(centre.x), -part(centre.y)}), behind_it(scene.ground, ground);

  const auto colour_at = [&](std::int64_t y, std::int64_t x) {
    const auto behind = behind_it.at(x, y);
    const auto dx = offset(x * one, centre.x, torus), dy = offset(y * one, centre.y, torus);
    // How far inside of the edge, half a pixel of it soft: (R^2 - r^2) / 2R is R - r near the edge.
    const auto inside = scene.round ? (radius * radius - dx * dx - dy * dy) / (2 * radius) : radius * 7 / 8 - std::max(std::abs(dx), std::abs(dy));
    const auto cover = std::clamp<std::int64_t>(inside + one / 2, 0, one);
    if (cover == 0) return behind;
    const auto front = patch.at((dx + margin) / one, (dy + margin) / one);
    Colour out{};
    for (std::size_t i = 0; i < 3; ++i) out[i] = mix(behind[i], front[i], cover);
    return out;
  };

  planes.luma.resize(static_cast<std::size_t>(size * size));
  planes.blue.resize(static_cast<std::size_t>(size * size / 4));
  planes.red.resize(planes.blue.size());
  for (std::int64_t y = 0; y < size; y += 2)
    for (std::int64_t x = 0; x < size; x += 2) {
      Colour sum{};
      for (const auto& [dy, dx] : {std::pair{0, 0}, {0, 1}, {1, 0}, {1, 1}}) {
        const auto rgb = colour_at(y + dy, x + dx);
        planes.luma[static_cast<std::size_t>((y + dy) * size + x + dx)] = static_cast<std::uint8_t>((66 * rgb[0] + 129 * rgb[1] + 25 * rgb[2] + 128) / 256 + 16);
        for (std::size_t i = 0; i < 3; ++i) sum[i] += rgb[i];
      }
      const auto at = static_cast<std::size_t>(y / 2 * (size / 2) + x / 2);
      planes.blue[at] = static_cast<std::uint8_t>((-38 * sum[0] - 74 * sum[1] + 112 * sum[2] + 512) / 1024 + 128);
      planes.red[at] = static_cast<std::uint8_t>((112 * sum[0] - 94 * sum[1] - 18 * sum[2] + 512) / 1024 + 128);
    }
}

}  // namespace sluice::motion8
