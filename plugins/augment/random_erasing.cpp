// augment.random_erasing: overwrites one random region, the same in all frames of a clip.
#include <cstring>

#include <sluice/stage.hpp>

#include "random_region.hpp"

namespace {

struct RandomErasing {
  double p = 0.5;
  std::vector<double> scale = {0.02, 0.33};
  std::vector<double> ratio = {0.3, 3.3};
  sluice::Text fill = "value";
  std::vector<std::int64_t> value = {0};

  static constexpr std::string_view help =
      "Overwrites one random region, the same in all frames of a clip (Zhong et al. 2017; areas and ratios as torchvision's RandomErasing).";
  static constexpr auto fields = sluice::fields(
      sluice::field(&RandomErasing::p, "p", "chance that a clip loses a region", sluice::range(0.0, 1.0)),
      sluice::field(&RandomErasing::scale, "scale", "[low, high]: share of the frame's area that is lost"),
      sluice::field(&RandomErasing::ratio, "ratio", "[low, high]: height to width of the region"),
      sluice::field(&RandomErasing::fill, "fill", "value: one colour; noise: random bytes, the same in all frames", sluice::one_of("value|noise")),
      sluice::field(&RandomErasing::value, "value", "the colour: one number, or one for each channel", sluice::range(0, 255)));

  void check() const {
    sluice::must_be_range(scale, "scale", 1);
    sluice::must_be_range(ratio, "ratio", 1e9);
    if (value.empty()) throw sluice::Error(sluice::Code::configuration, "value is empty", "value = [0], or one number for each channel");
  }

  sluice::Clip operator()(sluice::Clip clip, sluice::Rng& rng) const {
    if (!rng.chance(p) || clip.frames() == 0) return clip;
    const auto region = choose({clip.height(), clip.width()}, rng);
    if (region.size == sluice::Size{}) return clip;
    const auto bytes = static_cast<std::size_t>(region.size.width * clip.channels());
    const auto first = clip.frame(0);
    for (std::int64_t y = 0; y < region.size.height; ++y) paint(first.at(region.top + y, region.left), bytes, clip.channels(), rng);
    for (std::int64_t t = 1; t < clip.frames(); ++t) {
      const auto frame = clip.frame(t);
      for (std::int64_t y = region.top; y < region.top + region.size.height; ++y) std::memcpy(frame.at(y, region.left), first.at(y, region.left), bytes);
    }
    return clip;
  }

 private:
  // Ten tries for a region smaller than the frame; an empty one when none was found.
  [[nodiscard]] sluice::Region choose(const sluice::Size& frame, sluice::Rng& rng) const {
    for (int attempt = 0; attempt < 10; ++attempt) {
      const auto [width, height] = sluice::draw_size(frame, scale, ratio, rng);  // here ratio is height to width
      if (height < frame.height && width < frame.width) return sluice::place(frame, {height, width}, rng);
    }
    return {};
  }
  void paint(std::uint8_t* to, std::size_t bytes, std::int64_t channels, sluice::Rng& rng) const {
    if (fill == "noise") {
      for (std::size_t i = 0; i < bytes; i += 8) {
        const auto bits = rng.bits();
        std::memcpy(to + i, &bits, std::min<std::size_t>(8, bytes - i));
      }
      return;
    }
    for (std::size_t i = 0; i < bytes; ++i) to[i] = static_cast<std::uint8_t>(value[std::min(i % static_cast<std::size_t>(channels), value.size() - 1)]);
  }
};
SLUICE_STAGE(RandomErasing, "augment.random_erasing");

}  // namespace
