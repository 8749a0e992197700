// frames.all: all frames of a video, up to a maximum.
#include "clip_of_frames.hpp"
#include "spread.hpp"

namespace {

struct All {
  std::optional<std::int64_t> max;
  sluice::Text too_long = "uniform";
  std::int64_t stride = 1;
  std::optional<double> rate;

  static constexpr std::string_view help = "All frames of a video, or every `stride`-th; the length of clips varies, and batches are padded.";
  static constexpr auto fields = sluice::fields(
      sluice::field(&All::max, "max", "frames at most; default: no limit but the budget", sluice::range(1, sluice::most_clip_frames)),
      sluice::field(&All::too_long, "too_long",
                    "a video of more frames: `max` of them spread over all of it (uniform), the first ones (first), a random stretch, the middle one in evaluation (window), "
                    "or it counts as a bad sample (skip)",
                    sluice::one_of("uniform|first|window|skip")),
      sluice::field(&All::stride, "stride", "distance from one frame to the next", sluice::range(1, sluice::most_clip_frames)),
      sluice::field(&All::rate, "rate", sluice::rate_help, sluice::range(0.001, 10000)));

  std::int64_t count(const sluice::Video& video) const {
    const auto whole = strided(sluice::Timeline(video, rate));
    if (!max || whole <= *max) return whole;
    if (too_long.view() == "skip")
      throw sluice::Error(sluice::Code::data, "the video gives " + std::to_string(whole) + " frames, and max is " + std::to_string(*max),
                          "raise max, or say what is to be taken: too_long = \"uniform\"");
    return *max;
  }
  std::vector<std::int64_t> operator()(const sluice::Video& video, sluice::Rng& rng) const {
    const sluice::Timeline timeline(video, rate);
    const auto whole = strided(timeline), n = count(video);
    auto positions = too_long.view() == "uniform" ? sluice::spread_evenly(whole, n, false) : sluice::clip_positions(start(video, whole, n, rng), n, 1, whole, false);
    for (auto& position : positions) position *= stride;
    return timeline.frames(std::move(positions));
  }

 private:
  [[nodiscard]] std::int64_t strided(const sluice::Timeline& timeline) const { return (timeline.size() + stride - 1) / stride; }
  [[nodiscard]] std::int64_t start(const sluice::Video& video, std::int64_t whole, std::int64_t n, sluice::Rng& rng) const {
    return too_long.view() == "window" && whole > n ? sluice::clip_start(video, whole, n, 1, rng) : 0;
  }
};
SLUICE_FRAMES(All, "frames.all");

}  // namespace
