// augment.reverse: plays a clip backwards.
#include <algorithm>

#include "random_change.hpp"

namespace {

struct Reverse : sluice::RandomChange<Reverse> {
  static constexpr bool whole_clip = true;
  static constexpr std::string_view help =
      "Plays a clip backwards. On several streams all are reversed or none; label_map says which classes change places. Frame times stay as they were.";
  static constexpr auto fields = sluice::fields(
      sluice::field(&Reverse::p, "p", "chance that a clip is played backwards", sluice::range(0.0, 1.0)),
      sluice::field(&Reverse::label_map, "label_map", "classes that change when played backwards, e.g. { open = \"close\", close = \"open\" }; the others stay"));

  static void change(sluice::Clip& clip) {
    const auto bytes = clip.height() * clip.width() * clip.channels();
    for (std::int64_t a = 0, b = clip.frames() - 1; a < b; ++a, --b) std::swap_ranges(clip.frame(a).pixels, clip.frame(a).pixels + bytes, clip.frame(b).pixels);
  }
};
SLUICE_STAGE(Reverse, "augment.reverse");

}  // namespace
