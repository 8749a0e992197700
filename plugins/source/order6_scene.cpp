// Draws scenes and their frames; see the header for what they promise.
#include "order6_scene.hpp"

#include <algorithm>

#include <sluice/abi.hpp>
#include <sluice/rng.hpp>

namespace sluice::order6 {
namespace {

// Which colour comes first, second, third; 0 is red.
constexpr std::array<std::array<std::size_t, 3>, 6> permutations = {{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}};

// Starts of `count` flashes, ascending, at least `apart` frames from one to the next: the slack is cut at random places.
std::vector<std::int64_t> places(std::int64_t count, std::int64_t apart, std::int64_t last_start, Rng& rng) {
  const auto slack = last_start - (count - 1) * apart;
  std::vector<std::int64_t> starts;
  for (std::int64_t i = 0; i < count; ++i) starts.push_back(rng.index(slack + 1));
  std::sort(starts.begin(), starts.end());
  for (std::int64_t i = 0; i < count; ++i) starts[static_cast<std::size_t>(i)] += i * apart;
  return starts;
}

}  // namespace

Scene make_scene(std::uint64_t seed, bool validation, std::uint64_t index, std::int64_t size, std::int64_t frames, std::int64_t flash) {
  Rng rng(abi::RandomKey{mix_bits(seed ^ 0x6f7264657236u), index, validation ? 1u : 0u, 0});
  Scene scene;
  scene.size = size;
  scene.grey = 70 + rng.index(81);
  scene.grain = rng.bits();
  // Colours and greys take turns at random among six places.
  constexpr std::int64_t count = 6;
  const auto starts = places(count, std::max<std::int64_t>(flash + 1, frames / 12), frames - flash, rng);
  std::vector<std::size_t> slots = {0, 1, 2, 3, 4, 5};
  for (std::size_t i = slots.size() - 1; i > 0; --i) std::swap(slots[i], slots[static_cast<std::size_t>(rng.index(static_cast<std::int64_t>(i) + 1))]);
  std::sort(slots.begin(), slots.begin() + 3);  // those of the colours, in time
  const auto& order = permutations[index % permutations.size()];
  for (std::size_t i = 0; i < slots.size(); ++i) {
    Flash one;
    one.start = starts[slots[i]];
    one.frames = flash;
    one.size = size / 2 + rng.index(size / 4 + 1);
    one.top = rng.index(size - one.size + 1);
    one.left = rng.index(size - one.size + 1);
    const auto bright = 190 + rng.index(66), dark = rng.index(50);
    if (i < 3) {
      one.colour = {dark, dark, dark};
      one.colour[order[i]] = bright;
    } else {
      const auto grey = rng.index(2) == 0 ? bright : dark;
      one.colour = {grey, grey, grey};
    }
    scene.flashes.push_back(one);
  }
  std::sort(scene.flashes.begin(), scene.flashes.end(), [](const Flash& a, const Flash& b) { return a.start < b.start; });
  return scene;
}

void draw(const Scene& scene, std::int64_t t, Planes& planes) {
  const auto size = scene.size;
  const Flash* flash = nullptr;
  for (const auto& one : scene.flashes)
    if (t >= one.start && t < one.start + one.frames) flash = &one;
  // The ground brightens and darkens slowly, so that no frame is exactly another.
  const auto phase = t % 400, drift = (phase < 200 ? phase : 400 - phase) / 10 - 10;
  const auto colour_at = [&](std::int64_t y, std::int64_t x) -> std::array<std::int64_t, 3> {
    if (flash && y >= flash->top && y < flash->top + flash->size && x >= flash->left && x < flash->left + flash->size) return flash->colour;
    const auto grain = static_cast<std::int64_t>(mix_bits(scene.grain ^ static_cast<std::uint64_t>((y / 2) * size + x / 2)) % 41) - 20;
    const auto grey = std::clamp<std::int64_t>(scene.grey + grain + drift, 0, 255);
    return {grey, grey, grey};
  };
  planes.luma.resize(static_cast<std::size_t>(size * size));
  planes.blue.resize(static_cast<std::size_t>(size * size / 4));
  planes.red.resize(planes.blue.size());
  for (std::int64_t y = 0; y < size; y += 2)
    for (std::int64_t x = 0; x < size; x += 2) {
      std::array<std::int64_t, 3> sum{};
      for (std::int64_t dy = 0; dy < 2; ++dy)
        for (std::int64_t dx = 0; dx < 2; ++dx) {
          const auto rgb = colour_at(y + dy, x + dx);
          planes.luma[static_cast<std::size_t>((y + dy) * size + x + dx)] = static_cast<std::uint8_t>((66 * rgb[0] + 129 * rgb[1] + 25 * rgb[2] + 128) / 256 + 16);
          for (std::size_t i = 0; i < 3; ++i) sum[i] += rgb[i];
        }
      const auto at = static_cast<std::size_t>(y / 2 * (size / 2) + x / 2);
      planes.blue[at] = static_cast<std::uint8_t>((-38 * sum[0] - 74 * sum[1] + 112 * sum[2] + 512) / 1024 + 128);
      planes.red[at] = static_cast<std::uint8_t>((112 * sum[0] - 94 * sum[1] - 18 * sum[2] + 512) / 1024 + 128);
    }
}

}  // namespace sluice::order6
