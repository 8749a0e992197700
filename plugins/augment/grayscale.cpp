// augment.grayscale: takes the colours out of a clip, which keeps its three channels.
#include <algorithm>

#include <sluice/stage.hpp>

#include "luminance.hpp"

namespace {

struct Grayscale {
  double p = 0.2;

  static constexpr std::string_view help = "Takes the colours out of a clip, which keeps its three channels. Weights are torchvision's (0.2989, 0.587, 0.114).";
  static constexpr auto fields = sluice::fields(sluice::field(&Grayscale::p, "p", "chance that a clip loses its colours", sluice::range(0.0, 1.0)));

  sluice::Clip operator()(sluice::Clip clip, sluice::Rng& rng) const {
    if (!rng.chance(p) || clip.channels() < 3) return clip;
    auto* pixel = clip.array().data();
    for (auto* const end = pixel + clip.array().bytes(); pixel != end; pixel += clip.channels()) std::fill_n(pixel, 3, sluice::luminance(pixel));
    return clip;
  }
};
SLUICE_STAGE(Grayscale, "augment.grayscale");

}  // namespace
