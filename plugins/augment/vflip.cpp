// augment.vflip: turns a clip upside down.
#include "random_change.hpp"

namespace {

struct VFlip : sluice::RandomChange<VFlip> {
  static constexpr std::string_view help = "Turns a clip upside down. On several streams all are turned or none; label_map says which classes change places.";
  static constexpr auto fields = sluice::fields(
      sluice::field(&VFlip::p, "p", "chance that a clip is turned", sluice::range(0.0, 1.0)),
      sluice::field(&VFlip::label_map, "label_map", "classes that change when turned, e.g. { up = \"down\", down = \"up\" }; the others stay"));

  static void change(sluice::Clip& clip) {
    clip.for_each_frame([](sluice::Frame frame) { frame.flip(); });
  }
};
SLUICE_STAGE(VFlip, "augment.vflip");

}  // namespace
