#include <sluice/stage.hpp>

// Inverts the bright pixels of a clip with probability p, as Solarize of RandAugment.
struct Solarize {
  double p = 0.5;
  std::int64_t threshold = 128;
  static constexpr auto fields = sluice::fields(
      sluice::field(&Solarize::p, "p", "chance that a clip is solarized", sluice::range(0, 1)),
      sluice::field(&Solarize::threshold, "threshold", "pixels from here on are inverted", sluice::range(0, 255)));

  sluice::Clip operator()(sluice::Clip clip, sluice::Rng& rng) const {
    if (rng.uniform() < p)
      for (auto& pixel : clip.array().values<std::uint8_t>()) pixel = pixel < threshold ? pixel : 255 - pixel;
    return clip;
  }
};
SLUICE_STAGE(Solarize, "augment.solarize");
