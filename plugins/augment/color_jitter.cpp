// augment.color_jitter: changes brightness, contrast, saturation and hue of a clip, by the same amounts in all frames.
#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include <sluice/stage.hpp>

#include "luminance.hpp"

namespace {

using Table = std::array<std::uint8_t, 256>;

// What torchvision makes of a sum of two pictures: cut off, not rounded.
std::uint8_t cut_off(float value) { return static_cast<std::uint8_t>(std::clamp(value, 0.0f, 255.0f)); }

// Every value mixed with one grey: with black it is the brightness that changes, with the mean the contrast.
Table mixed_with(float grey, float factor) {
  Table table{};
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = cut_off(factor * static_cast<float>(i) + (1.0f - factor) * grey);
  return table;
}

// Turns the colour circle of HSV by `turn` (Smith 1978), as torchvision's adjust_hue has it.
void turn_hue(std::uint8_t* rgb, float turn) {
  const float r = static_cast<float>(rgb[0]) / 255.0f, g = static_cast<float>(rgb[1]) / 255.0f, b = static_cast<float>(rgb[2]) / 255.0f;
  const float most = std::max({r, g, b}), least = std::min({r, g, b}), spread = most - least;
  if (spread == 0.0f) return;  // grey has no hue
  const float to_r = (most - r) / spread, to_g = (most - g) / spread, to_b = (most - b) / spread;
  float hue = most == r ? to_b - to_g : most == g ? 2.0f + to_r - to_b : 4.0f + to_g - to_r;
  hue = std::fmod(hue / 6.0f + 1.0f, 1.0f) + turn;
  hue -= std::floor(hue);
  const float saturation = spread / most, sixth = std::floor(hue * 6.0f), part = hue * 6.0f - sixth;
  const auto byte = [](float x) { return static_cast<std::uint8_t>(std::clamp(x, 0.0f, 1.0f) * (255.0f + 1.0f - 1e-3f)); };
  const auto v = byte(most), p = byte(most * (1.0f - saturation)), q = byte(most * (1.0f - saturation * part)), t = byte(most * (1.0f - saturation * (1.0f - part)));
  switch (static_cast<int>(sixth) % 6) {
    case 0: rgb[0] = v, rgb[1] = t, rgb[2] = p; break;
    case 1: rgb[0] = q, rgb[1] = v, rgb[2] = p; break;
    case 2: rgb[0] = p, rgb[1] = v, rgb[2] = t; break;
    case 3: rgb[0] = p, rgb[1] = q, rgb[2] = v; break;
    case 4: rgb[0] = t, rgb[1] = p, rgb[2] = v; break;
    default: rgb[0] = v, rgb[1] = p, rgb[2] = q; break;
  }
}

struct ColorJitter {
  double brightness = 0;
  double contrast = 0;
  double saturation = 0;
  double hue = 0;
  double p = 1;

  static constexpr std::string_view help =
      "Changes brightness, contrast, saturation and hue in random order, by the same amounts in all frames of a clip; formulas and ranges are those of torchvision's ColorJitter.";
  static constexpr auto fields = sluice::fields(
      sluice::field(&ColorJitter::brightness, "brightness", "b: factor drawn from [max(0, 1 - b), 1 + b]; 0 leaves it", sluice::at_least(0.0)),
      sluice::field(&ColorJitter::contrast, "contrast", "c: factor drawn from [max(0, 1 - c), 1 + c], about the mean of each frame", sluice::at_least(0.0)),
      sluice::field(&ColorJitter::saturation, "saturation", "s: factor drawn from [max(0, 1 - s), 1 + s]; 0 leaves it", sluice::at_least(0.0)),
      sluice::field(&ColorJitter::hue, "hue", "h: part of the colour circle, drawn from [-h, h]; 0 leaves it", sluice::range(0.0, 0.5)),
      sluice::field(&ColorJitter::p, "p", "chance that a clip is changed", sluice::range(0.0, 1.0)));

  sluice::Clip operator()(sluice::Clip clip, sluice::Rng& rng) const {
    if (!rng.chance(p)) return clip;
    std::array<int, 4> order = {0, 1, 2, 3};
    for (int i = 3; i > 0; --i) std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(rng.index(i + 1))]);
    const auto factor = [&](double amount) { return static_cast<float>(rng.uniform(std::max(0.0, 1.0 - amount), 1.0 + amount)); };
    const float by_brightness = factor(brightness), by_contrast = factor(contrast), by_saturation = factor(saturation);
    const auto turn = static_cast<float>(rng.uniform(-hue, hue));

    clip.for_each_frame([&](sluice::Frame frame) {
      for (const int what : order) {
        if (what == 0 && brightness > 0) look_up(frame, mixed_with(0.0f, by_brightness));
        if (what == 1 && contrast > 0) look_up(frame, mixed_with(mean_luminance(frame), by_contrast));
        if (what == 2 && saturation > 0 && frame.channels >= 3)
          for_each_pixel(frame, [&](std::uint8_t* rgb) {
            const auto grey = (1.0f - by_saturation) * static_cast<float>(sluice::luminance(rgb));
            for (int c = 0; c < 3; ++c) rgb[c] = cut_off(by_saturation * static_cast<float>(rgb[c]) + grey);
          });
        if (what == 3 && hue > 0 && frame.channels >= 3) for_each_pixel(frame, [&](std::uint8_t* rgb) { turn_hue(rgb, turn); });
      }
    });
    return clip;
  }

 private:
  template <class Function> static void for_each_pixel(const sluice::Frame& frame, Function function) {
    auto* const end = frame.pixels + frame.height * frame.row_bytes();
    for (auto* pixel = frame.pixels; pixel != end; pixel += frame.channels) function(pixel);
  }
  static void look_up(const sluice::Frame& frame, const Table& table) {
    auto* const end = frame.pixels + frame.height * frame.row_bytes();
    for (auto* byte = frame.pixels; byte != end; ++byte) *byte = table[*byte];
  }
  static float mean_luminance(const sluice::Frame& frame) {
    std::int64_t sum = 0;
    for_each_pixel(frame, [&](const std::uint8_t* pixel) { sum += frame.channels >= 3 ? sluice::luminance(pixel) : pixel[0]; });
    return static_cast<float>(static_cast<double>(sum) / static_cast<double>(std::max<std::int64_t>(1, frame.height * frame.width)));
  }
};
SLUICE_STAGE(ColorJitter, "augment.color_jitter");

}  // namespace
