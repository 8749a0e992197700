// augment.hflip: mirrors a clip left to right.
#include <sluice/stage.hpp>

#include "label_map.hpp"

namespace {

struct HFlip {
  double p = 0.5;
  sluice::StringMap label_map;

  static constexpr std::string_view help = "Mirrors a clip left to right. On several streams all are mirrored or none; label_map says which classes change places.";
  static constexpr std::string_view reads = "*,label", writes = "*,label";
  static constexpr auto fields = sluice::fields(
      sluice::field(&HFlip::p, "p", "chance that a clip is mirrored", sluice::range(0.0, 1.0)),
      sluice::field(&HFlip::label_map, "label_map", "classes that change when mirrored, e.g. { left = \"right\", right = \"left\" }; the others stay"));

  void check() const { sluice::LabelMap::check(label_map); }
  void prepare(const sluice::Context& context) { labels.prepare(label_map, context); }

  void operator()(sluice::Sample& sample, sluice::Rng& rng) const {
    if (!rng.chance(p)) return;
    for (const auto stream : sample.on()) {
      auto clip = sample.take_clip(stream);
      clip.for_each_frame([](sluice::Frame frame) { frame.mirror(); });
      sample.put(stream, std::move(clip));
    }
    labels.apply(sample);
  }

  sluice::LabelMap labels{};
};
SLUICE_STAGE(HFlip, "augment.hflip");

}  // namespace
