// frames.clips: several clips of each video in evaluation, whose predictions are averaged.
#include "clip_of_frames.hpp"

namespace {

struct Clips {
  std::int64_t clips = 10;
  std::int64_t frames = 16;
  std::int64_t stride = 1;
  std::optional<double> rate;
  sluice::Text short_videos = "loop";

  static constexpr std::string_view help = "In evaluation `clips` clips of each video, evenly from its beginning to its end; in training one from a random start.";
  static constexpr auto fields = sluice::fields(
      sluice::field(&Clips::clips, "clips", "clips of each video in evaluation, whatever eval.clips says", sluice::range(1, 10000)),
      sluice::field(&Clips::frames, "frames", "frames of a clip", sluice::range(1, sluice::most_clip_frames)),
      sluice::field(&Clips::stride, "stride", "distance from one frame to the next", sluice::range(1, sluice::most_clip_frames)),
      sluice::field(&Clips::rate, "rate", sluice::rate_help, sluice::range(0.001, 10000)),
      sluice::field(&Clips::short_videos, "short", sluice::short_help, sluice::one_of(sluice::short_choices)));

  std::int64_t count(const sluice::Video&) const { return frames; }
  std::int64_t views(bool training) const { return training ? 1 : clips; }
  std::vector<std::int64_t> operator()(const sluice::Video& video, sluice::Rng& rng) const {
    return sluice::ClipOfFrames{frames, stride, rate, short_videos.view() == "loop"}.choose(video, rng);
  }
};
SLUICE_FRAMES(Clips, "frames.clips");

}  // namespace
