// augment.hflip: mirrors a clip left to right.
#include "random_change.hpp"

namespace {

struct HFlip : sluice::RandomChange<HFlip> {
  static constexpr std::string_view help = "Mirrors a clip left to right. On several streams all are mirrored or none; label_map says which classes change places.";
  static constexpr auto fields = sluice::fields(
      sluice::field(&HFlip::p, "p", "chance that a clip is mirrored", sluice::range(0.0, 1.0)),
      sluice::field(&HFlip::label_map, "label_map", "classes that change when mirrored, e.g. { left = \"right\", right = \"left\" }; the others stay"));

  static void change(sluice::Clip& clip) {
    clip.for_each_frame([](sluice::Frame frame) { frame.mirror(); });
  }
};
SLUICE_STAGE(HFlip, "augment.hflip");

}  // namespace
