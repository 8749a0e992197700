// augment.vflip: turns a clip upside down.
#include <sluice/stage.hpp>

#include "label_map.hpp"

namespace {

struct VFlip {
  double p = 0.5;
  sluice::StringMap label_map;

  static constexpr std::string_view help = "Turns a clip upside down. On several streams all are turned or none; label_map says which classes change places.";
  static constexpr std::string_view reads = "*,label", writes = "*,label";
  static constexpr auto fields = sluice::fields(
      sluice::field(&VFlip::p, "p", "chance that a clip is turned", sluice::range(0.0, 1.0)),
      sluice::field(&VFlip::label_map, "label_map", "classes that change when turned, e.g. { up = \"down\", down = \"up\" }; the others stay"));

  void check() const { sluice::LabelMap::check(label_map); }
  void prepare(const sluice::Context& context) { labels.prepare(label_map, context); }

  void operator()(sluice::Sample& sample, sluice::Rng& rng) const {
    if (!rng.chance(p)) return;
    for (const auto stream : sample.on()) {
      auto clip = sample.take_clip(stream);
      clip.for_each_frame([](sluice::Frame frame) { frame.flip(); });
      sample.put(stream, std::move(clip));
    }
    labels.apply(sample);
  }

  sluice::LabelMap labels{};
};
SLUICE_STAGE(VFlip, "augment.vflip");

}  // namespace
