// augment.center_crop: cuts the middle out of all frames of a clip.
#include <sluice/stage.hpp>

#include "crop_frames.hpp"

namespace {

struct CenterCrop {
  std::vector<std::int64_t> size;
  sluice::Text too_small = "error";
  sluice::Text fill = "zero";

  static constexpr std::string_view help = "Cuts the middle out of all frames of a clip; half pixels are rounded as torchvision's CenterCrop does it.";
  static constexpr auto fields = sluice::fields(
      sluice::field(&CenterCrop::size, "size", "[height, width] of the region, or [n] for a square", sluice::required),
      sluice::field(&CenterCrop::too_small, "too_small", "frames smaller than the region: error skips the sample, pad adds what is missing", sluice::one_of("error|pad")),
      sluice::field(&CenterCrop::fill, "fill", "what lies beyond the edges: black, the edge's colour, or the picture mirrored", sluice::one_of("zero|edge|reflect")));

  void check() const { static_cast<void>(sluice::size_of(size)); }

  sluice::Info out(const sluice::Info& in) const {
    sluice::must_be_video(in);
    must_fit(sluice::size_of(in));
    return sluice::with_size(in, sluice::size_of(size));
  }

  sluice::Clip operator()(sluice::Clip clip, sluice::Rng&) const {
    must_fit({clip.height(), clip.width()});
    const auto want = sluice::size_of(size);
    const sluice::Region region{start(clip.height(), want.height), start(clip.width(), want.width), want};
    return sluice::cropped(std::move(clip), region, sluice::fill_of(fill));
  }

 private:
  void must_fit(const sluice::Size& frame) const {
    const auto want = sluice::size_of(size);
    if (too_small == "error" && (frame.height < want.height || frame.width < want.width)) throw sluice::does_not_fit(want, frame);
  }
  // torchvision: half a pixel goes to the even side; a missing odd pixel is added at the end.
  static std::int64_t start(std::int64_t have, std::int64_t want) {
    const auto room = have - want, half = room / 2;
    if (room < 0) return half;
    return room % 2 == 0 || half % 2 == 0 ? half : half + 1;
  }
};
SLUICE_STAGE(CenterCrop, "augment.center_crop");

}  // namespace
