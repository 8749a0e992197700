// The scenes of source.motion8: a single frame must say nothing about the direction, the frames together everything.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "../../plugins/source/motion8_scene.hpp"

using namespace sluice::motion8;

namespace {

constexpr std::uint64_t scenes = 16000;

// Pearson's chi-square of a table of class x cell, against independence; and its 99.9 % point (Wilson and Hilferty 1931).
struct Table {
  std::size_t cells;
  std::vector<double> counts = std::vector<double>(8 * cells);

  void add(int direction, std::size_t cell) { ++counts[static_cast<std::size_t>(direction) * cells + cell]; }
  [[nodiscard]] double chi_square() const {
    std::vector<double> by_cell(cells), by_class(8);
    double all = 0, sum = 0;
    for (std::size_t c = 0; c < 8; ++c)
      for (std::size_t i = 0; i < cells; ++i) by_cell[i] += counts[c * cells + i], by_class[c] += counts[c * cells + i], all += counts[c * cells + i];
    for (std::size_t c = 0; c < 8; ++c)
      for (std::size_t i = 0; i < cells; ++i)
        if (const double expected = by_cell[i] * by_class[c] / all; expected > 0) sum += std::pow(counts[c * cells + i] - expected, 2) / expected;
    return sum;
  }
  [[nodiscard]] double limit() const {
    const double freedom = 7.0 * static_cast<double>(cells - 1), a = 2.0 / (9.0 * freedom);
    return freedom * std::pow(1 - a + 3.09 * std::sqrt(a), 3);
  }
};

std::size_t cell_of(std::int64_t value, std::int64_t low, std::int64_t high, std::size_t cells) {
  return std::min(cells - 1, static_cast<std::size_t>((value - low) * static_cast<std::int64_t>(cells) / (high - low)));
}
std::int64_t wrap(std::int64_t x) { return ((x % (64 * 256)) + 64 * 256) % (64 * 256); }
std::int64_t mean_of(const std::vector<std::uint8_t>& bytes) {
  std::int64_t sum = 0;
  for (const auto byte : bytes) sum += byte;
  return sum / static_cast<std::int64_t>(bytes.size());
}
using Cell = std::function<std::size_t(const Scene&)>;

// Fills all tables in one pass over the scenes.
std::vector<Table> tables_of(const std::vector<std::pair<std::size_t, Cell>>& wanted) {
  std::vector<Table> tables;
  for (const auto& [cells, cell] : wanted) tables.push_back({cells});
  for (std::uint64_t i = 0; i < scenes; ++i) {
    const auto scene = make_scene(8, false, i, 64);
    for (std::size_t k = 0; k < wanted.size(); ++k) tables[k].add(scene.direction, wanted[k].second(scene));
  }
  return tables;
}
std::size_t place(std::int64_t x, std::int64_t y) { return cell_of(wrap(x), 0, 64 * 256, 4) * 4 + cell_of(wrap(y), 0, 64 * 256, 4); }

}  // namespace

// Catches: a start, a speed, a size or a colour that is chosen with the direction in sight, and a path that is cut off at the
// border instead of wrapping round (then late frames of "right" lie to the right).
TEST_CASE("place, size, speed, colour and background do not depend on the direction, at any frame") {
  const auto at_frame = [](std::int64_t t) { return [t](const Scene& s) { return place(s.start.x + t * s.velocity.x, s.start.y + t * s.velocity.y); }; };
  const std::vector<std::pair<std::size_t, Cell>> wanted = {
      {16, at_frame(0)}, {16, at_frame(11)}, {16, at_frame(23)},
      // The part of a pixel: it decides how soft a frame is drawn.
      {16, [](const Scene& s) { return static_cast<std::size_t>(wrap(s.start.x + 7 * s.velocity.x) % 256 / 64 * 4 + wrap(s.start.y + 7 * s.velocity.y) % 256 / 64); }},
      {16, [](const Scene& s) { return place(s.ground_start.x, s.ground_start.y); }},
      {16, [](const Scene& s) { return cell_of(s.ground_velocity.x, -64, 65, 4) * 4 + cell_of(s.ground_velocity.y, -64, 65, 4); }},
      {8, [](const Scene& s) { return cell_of(s.radius, 72 * 64, 104 * 64 + 1, 8); }},
      {2, [](const Scene& s) { return s.round ? 1u : 0u; }},
      {8, [](const Scene& s) { return cell_of(mean_of(s.patch.pixels), 0, 256, 8); }},
      {8, [](const Scene& s) { return cell_of(mean_of(s.ground.pixels), 0, 256, 8); }},
      {8, [](const Scene& s) { return cell_of(std::clamp<std::int64_t>(std::llround(std::hypot(s.velocity.x, s.velocity.y)), 256, 640), 256, 641, 8); }},
      // Planted defect: a patch that starts on the side that it leaves, as a naive renderer lets it.
      {16, [](const Scene& s) { return place(s.velocity.x == 0 ? s.start.x : s.velocity.x > 0 ? s.start.x / 2 : 64 * 128 + s.start.x / 2, s.start.y); }},
  };
  const auto tables = tables_of(wanted);
  for (std::size_t k = 0; k + 1 < tables.size(); ++k) {
    CAPTURE(k);
    CHECK(tables[k].chi_square() < tables[k].limit());
  }
  CHECK(tables.back().chi_square() > 10 * tables.back().limit());
}

TEST_CASE("the direction's name says where the patch goes, and classes are even") {
  std::map<int, int> count;
  for (std::uint64_t i = 0; i < 80; ++i) {
    const auto scene = make_scene(8, true, i, 64);
    const std::string name(directions[static_cast<std::size_t>(scene.direction)]);
    const auto has = [&](const char* word) { return name.find(word) != std::string::npos; };
    CHECK((scene.velocity.x < 0) == has("left"));
    CHECK((scene.velocity.x > 0) == has("right"));
    CHECK((scene.velocity.y < 0) == has("up"));
    CHECK((scene.velocity.y > 0) == has("down"));
    ++count[scene.direction];
  }
  for (const auto& [direction, n] : count) CHECK(n == 10);
  CHECK(count.size() == 8);
}

// An oracle in floating point, written from the description: tile, shift, blend. Catches: a slip of a pixel or of a sign in
// the whole-number drawing, and a torus with a seam.
TEST_CASE("a frame is the patch over the background, both moved") {
  double worst = 0, sum = 0;
  std::size_t pixels = 0;
  for (const std::uint64_t index : {0u, 5u, 6u, 11u, 15u, 20u})
    for (const std::int64_t t : {0, 7, 23}) {
      const auto scene = make_scene(3, false, index, 64);
      Planes planes;
      draw(scene, t, planes);
      const auto texel = [](const Texture& texture, double u, double v, int c) {
        const auto n = static_cast<double>(texture.size);
        u -= std::floor(u / n) * n, v -= std::floor(v / n) * n;
        const auto x = static_cast<std::int64_t>(u), y = static_cast<std::int64_t>(v);
        const auto at = [&](std::int64_t yy, std::int64_t xx) { return double{1} * texture.pixels[static_cast<std::size_t>(((yy % texture.size) * texture.size + xx % texture.size) * 3 + c)]; };
        const double a = u - static_cast<double>(x), b = v - static_cast<double>(y);
        return (at(y, x) * (1 - a) + at(y, x + 1) * a) * (1 - b) + (at(y + 1, x) * (1 - a) + at(y + 1, x + 1) * a) * b;
      };
      const double px = static_cast<double>(scene.start.x + t * scene.velocity.x) / 256, py = static_cast<double>(scene.start.y + t * scene.velocity.y) / 256;
      const double gx = static_cast<double>(scene.ground_start.x + t * scene.ground_velocity.x) / 256, gy = static_cast<double>(scene.ground_start.y + t * scene.ground_velocity.y) / 256;
      const double radius = static_cast<double>(scene.radius) / 256;
      const auto near = [](double d) { return d - 64 * std::floor((d + 32) / 64); };
      for (std::int64_t y = 0; y < 64; ++y)
        for (std::int64_t x = 0; x < 64; ++x) {
          const double dx = near(static_cast<double>(x) - px), dy = near(static_cast<double>(y) - py);
          const double inside = scene.round ? (radius * radius - dx * dx - dy * dy) / (2 * radius) : radius * 7 / 8 - std::max(std::abs(dx), std::abs(dy));
          const double cover = std::clamp(inside + 0.5, 0.0, 1.0);
          double rgb[3];
          for (int c = 0; c < 3; ++c) {
            const double behind = texel(scene.ground, static_cast<double>(x) - gx, static_cast<double>(y) - gy, c);
            const double front = cover > 0 ? texel(scene.patch, dx + radius + 1, dy + radius + 1, c) : 0;
            rgb[c] = behind * (1 - cover) + front * cover;
          }
          const double luma = 16 + (66 * rgb[0] + 129 * rgb[1] + 25 * rgb[2]) / 256;
          const double off = std::abs(luma - planes.luma[static_cast<std::size_t>(y * 64 + x)]);
          worst = std::max(worst, off), sum += off, ++pixels;
        }
    }
  CHECK(worst < 4);  // rounding at the soft edge
  CHECK(sum / static_cast<double>(pixels) < 0.6);
}

TEST_CASE("another seed, split, index or size gives another scene; the same gives the same") {
  const auto luma = [](std::uint64_t seed, bool validation, std::uint64_t index, std::int64_t size) {
    Planes planes;
    draw(make_scene(seed, validation, index, size), 5, planes);
    return planes.luma;
  };
  const auto first = luma(1, false, 8, 64);
  CHECK(first == luma(1, false, 8, 64));
  CHECK(first != luma(2, false, 8, 64));
  CHECK(first != luma(1, true, 8, 64));
  CHECK(first != luma(1, false, 16, 64));
  CHECK(luma(1, false, 8, 16).size() == 256);
  CHECK(luma(1, false, 8, 112).size() == 112 * 112);
}
