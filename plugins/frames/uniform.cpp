// frames.uniform: a fixed number of frames over the whole video, however long it is.
#include "clip_of_frames.hpp"
#include "spread.hpp"

namespace {

struct Uniform {
  std::int64_t frames = 8;
  bool random = true;
  sluice::Text rounding = "floor";
  std::optional<double> rate;
  sluice::Text short_videos = "stretch";

  static constexpr std::string_view help = "A fixed number of frames spread over the whole video.";
  static constexpr auto fields = sluice::fields(
      sluice::field(&Uniform::frames, "frames", "frames of a clip", sluice::range(1, sluice::most_clip_frames)),
      sluice::field(&Uniform::random, "random", "in training each frame is drawn from its own piece of the video (TSN, Wang et al. 2016); else the frames are those of evaluation"),
      sluice::field(&Uniform::rounding, "rounding", "evaluation: linspace(0, length - 1, frames) cut off (floor) or to the nearest (round)", sluice::one_of("floor|round")),
      sluice::field(&Uniform::rate, "rate", sluice::rate_help, sluice::range(0.001, 10000)),
      sluice::field(&Uniform::short_videos, "short", "a video of fewer frames: each is repeated in its place (stretch), it begins again (loop), its last frame stays (hold)",
                    sluice::one_of("stretch|loop|hold")));

  std::int64_t count(const sluice::Video&) const { return frames; }
  std::vector<std::int64_t> operator()(const sluice::Video& video, sluice::Rng& rng) const {
    const sluice::Timeline timeline(video, rate);
    return timeline.frames(positions(video, timeline.size(), rng));
  }

 private:
  std::vector<std::int64_t> positions(const sluice::Video& video, std::int64_t length, sluice::Rng& rng) const {
    if (length < frames && short_videos.view() != "stretch") return sluice::clip_positions(0, frames, 1, length, short_videos.view() == "loop");
    if (video.training() && random) return in_segments(length, rng);
    if (!video.training() && video.views() > 1) return phase(length, video.view(), video.views());
    return sluice::spread_evenly(length, frames, rounding.view() == "round");
  }
  // mmaction2's SampleFrames with clip_len = 1: pieces of length / frames positions, the remainder left out.
  std::vector<std::int64_t> in_segments(std::int64_t length, sluice::Rng& rng) const {
    std::vector<std::int64_t> chosen;
    const auto piece = length / frames;
    for (std::int64_t i = 0; i < frames; ++i)
      chosen.push_back(piece > 0 ? i * piece + rng.index(piece)
                                 : std::min(length - 1, static_cast<std::int64_t>(std::nearbyint(static_cast<double>(i) * static_cast<double>(length) / static_cast<double>(frames)))));
    return chosen;
  }
  // Several views: equal pieces again, and each view looks at another place of all of them.
  std::vector<std::int64_t> phase(std::int64_t length, std::int64_t view, std::int64_t views) const {
    std::vector<std::int64_t> chosen;
    for (std::int64_t i = 0; i < frames; ++i)
      chosen.push_back(static_cast<std::int64_t>(static_cast<Wide>(2 * (i * views + view) + 1) * length / (2 * frames * views)));
    return chosen;
  }
  __extension__ using Wide = __int128;
};
SLUICE_FRAMES(Uniform, "frames.uniform");

}  // namespace
