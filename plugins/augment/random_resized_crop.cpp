// augment.random_resized_crop: cuts the same random region out of all frames and scales it to one size.
#include <sluice/stage.hpp>

#include "random_region.hpp"
#include "resize_frames.hpp"

namespace {

struct RandomResizedCrop {
  std::vector<std::int64_t> size;
  std::vector<double> scale = {0.08, 1.0};
  std::vector<double> ratio = {3.0 / 4.0, 4.0 / 3.0};
  sluice::Text interpolation = "auto";

  static constexpr std::string_view help = "Cuts the same random region out of all frames of a clip and scales it to one size; as torchvision's RandomResizedCrop.";
  static constexpr auto fields = sluice::fields(
      sluice::field(&RandomResizedCrop::size, "size", "[height, width] to scale to, or [n] for a square", sluice::required),
      sluice::field(&RandomResizedCrop::scale, "scale", "[low, high]: share of the frame's area that is cut out"),
      sluice::field(&RandomResizedCrop::ratio, "ratio", "[low, high]: width to height of what is cut out"),
      sluice::field(&RandomResizedCrop::interpolation, "interpolation", sluice::interpolation_help, sluice::one_of(sluice::interpolations)));

  void check() const {
    static_cast<void>(sluice::size_of(size));
    sluice::must_be_range(scale, "scale", 1);
    sluice::must_be_range(ratio, "ratio", 1e9);
  }

  sluice::Info out(const sluice::Info& in) const {
    sluice::must_be_video(in);
    auto info = sluice::with_size(in, sluice::size_of(size));
    info.scratch = sluice::resize_scratch(sluice::size_of(in), sluice::size_of(size), in.shape[3]);
    return info;
  }

  sluice::Clip operator()(sluice::Clip clip, sluice::Rng& rng) const {
    const auto region = choose({clip.height(), clip.width()}, rng);
    return sluice::resized(std::move(clip), region, sluice::size_of(size), sluice::interpolation_of(interpolation));
  }

 private:
  // Ten tries; then the largest region in the middle whose ratio is allowed.
  [[nodiscard]] sluice::Region choose(const sluice::Size& frame, sluice::Rng& rng) const {
    for (int attempt = 0; attempt < 10; ++attempt) {
      const auto region = sluice::draw_size(frame, scale, ratio, rng);
      if (region.height > 0 && region.width > 0 && region.height <= frame.height && region.width <= frame.width) return sluice::place(frame, region, rng);
    }
    auto middle = frame;
    const double shape = static_cast<double>(frame.width) / static_cast<double>(frame.height);
    if (shape < ratio[0]) middle.height = std::llrint(static_cast<double>(frame.width) / ratio[0]);
    if (shape > ratio[1]) middle.width = std::llrint(static_cast<double>(frame.height) * ratio[1]);
    middle = {std::clamp<std::int64_t>(middle.height, 1, frame.height), std::clamp<std::int64_t>(middle.width, 1, frame.width)};
    return {(frame.height - middle.height) / 2, (frame.width - middle.width) / 2, middle};
  }
};
SLUICE_STAGE(RandomResizedCrop, "augment.random_resized_crop");

}  // namespace
