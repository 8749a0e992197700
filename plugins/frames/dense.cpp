// frames.dense: neighbouring frames, from a random start in training.
#include "clip_of_frames.hpp"

namespace {

struct Dense {
  std::int64_t frames = 16;
  std::int64_t stride = 1;
  std::optional<double> rate;
  sluice::Text short_videos = "loop";

  static constexpr std::string_view help = "Frames in a row, `stride` apart, from a random start; the middle of the video in evaluation, or eval.clips places.";
  static constexpr auto fields = sluice::fields(
      sluice::field(&Dense::frames, "frames", "frames of a clip", sluice::range(1, sluice::most_clip_frames)),
      sluice::field(&Dense::stride, "stride", "distance from one frame to the next", sluice::range(1, sluice::most_clip_frames)),
      sluice::field(&Dense::rate, "rate", sluice::rate_help, sluice::range(0.001, 10000)),
      sluice::field(&Dense::short_videos, "short", sluice::short_help, sluice::one_of(sluice::short_choices)));

  std::int64_t count(const sluice::Video&) const { return frames; }
  std::vector<std::int64_t> operator()(const sluice::Video& video, sluice::Rng& rng) const {
    return sluice::ClipOfFrames{frames, stride, rate, short_videos.view() == "loop"}.choose(video, rng);
  }
};
SLUICE_FRAMES(Dense, "frames.dense");

}  // namespace
