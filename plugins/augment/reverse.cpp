// augment.reverse: plays a clip backwards.
#include <algorithm>

#include <sluice/stage.hpp>

#include "label_map.hpp"

namespace {

struct Reverse {
  double p = 0.5;
  sluice::StringMap label_map;

  static constexpr std::string_view help =
      "Plays a clip backwards. On several streams all are reversed or none; label_map says which classes change places. Frame times stay as they were.";
  static constexpr std::string_view reads = "*,label", writes = "*,label";
  static constexpr auto fields = sluice::fields(
      sluice::field(&Reverse::p, "p", "chance that a clip is played backwards", sluice::range(0.0, 1.0)),
      sluice::field(&Reverse::label_map, "label_map", "classes that change when played backwards, e.g. { open = \"close\", close = \"open\" }; the others stay"));

  void check() const { sluice::LabelMap::check(label_map); }
  void prepare(const sluice::Context& context) { labels.prepare(label_map, context); }

  void operator()(sluice::Sample& sample, sluice::Rng& rng) const {
    if (!rng.chance(p)) return;
    for (const auto stream : sample.on()) {
      auto clip = sample.take_clip(stream);
      const auto bytes = clip.height() * clip.width() * clip.channels();
      for (std::int64_t a = 0, b = clip.frames() - 1; a < b; ++a, --b) std::swap_ranges(clip.frame(a).pixels, clip.frame(a).pixels + bytes, clip.frame(b).pixels);
      sample.put(stream, std::move(clip));
    }
    labels.apply(sample);
  }

  sluice::LabelMap labels{};
};
SLUICE_STAGE(Reverse, "augment.reverse");

}  // namespace
