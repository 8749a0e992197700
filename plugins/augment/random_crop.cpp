// augment.random_crop: cuts the same region, anywhere, out of all frames of a clip.
#include <sluice/stage.hpp>

#include "crop_frames.hpp"

namespace {

struct RandomCrop {
  std::vector<std::int64_t> size;
  std::int64_t padding = 0;
  sluice::Text too_small = "error";
  sluice::Text fill = "zero";

  static constexpr std::string_view help = "Cuts the same region, anywhere, out of all frames of a clip; as torchvision's RandomCrop.";
  static constexpr auto fields = sluice::fields(
      sluice::field(&RandomCrop::size, "size", "[height, width] of the region, or [n] for a square", sluice::required),
      sluice::field(&RandomCrop::padding, "padding", "pixels added on every side before the region is chosen", sluice::range(0, 4096)),
      sluice::field(&RandomCrop::too_small, "too_small", "frames smaller than the region: error skips the sample, pad adds what is missing", sluice::one_of("error|pad")),
      sluice::field(&RandomCrop::fill, "fill", "what lies beyond the edges: black, the edge's colour, or the picture mirrored", sluice::one_of("zero|edge|reflect")));

  void check() const { static_cast<void>(sluice::size_of(size)); }

  sluice::Info out(const sluice::Info& in) const {
    sluice::must_be_video(in);
    must_fit(sluice::size_of(in));
    return sluice::with_size(in, sluice::size_of(size));
  }

  sluice::Clip operator()(sluice::Clip clip, sluice::Rng& rng) const {
    must_fit({clip.height(), clip.width()});
    const auto want = sluice::size_of(size);
    const auto top = start(clip.height(), want.height, rng), left = start(clip.width(), want.width, rng);
    return sluice::cropped(std::move(clip), {top, left, want}, sluice::fill_of(fill));
  }

 private:
  void must_fit(const sluice::Size& frame) const {
    const auto want = sluice::size_of(size);
    if (too_small == "error" && (frame.height + 2 * padding < want.height || frame.width + 2 * padding < want.width)) throw sluice::does_not_fit(want, frame);
  }
  // Along one axis: inside of the padded frame, or, where that is smaller than the region, around it.
  [[nodiscard]] std::int64_t start(std::int64_t have, std::int64_t want, sluice::Rng& rng) const {
    const auto room = have + 2 * padding - want;
    const auto at = rng.index(std::abs(room) + 1);
    return (room >= 0 ? at : at + room) - padding;
  }
};
SLUICE_STAGE(RandomCrop, "augment.random_crop");

}  // namespace
