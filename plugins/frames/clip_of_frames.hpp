// One clip of evenly spaced frames: where it starts and what a video too short for it gives. mmaction2's SampleFrames
// (Apache-2.0) has these formulas; numbers chosen here equal its own.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include <sluice/frames.hpp>

#include "timeline.hpp"

namespace sluice {

inline constexpr double most_clip_frames = 1 << 20;
inline constexpr std::string_view short_choices = "loop|hold";
inline constexpr std::string_view short_help = "a video shorter than the clip: begins again (loop), or its last frame stays (hold)";

// Training: any start from which frames x stride positions lie in the video, all equally likely; 0 where there is none.
// Evaluation: `views` starts from the first to the last that fit, evenly; the middle one if there is one view.
inline std::int64_t clip_start(const Video& video, std::int64_t length, std::int64_t frames, std::int64_t stride, Rng& rng) {
  if (video.training()) {
    const auto starts = length - frames * stride + 1;
    return starts > 0 ? rng.index(starts) : 0;
  }
  const auto last = std::max<std::int64_t>(length - ((frames - 1) * stride + 1), 0);
  if (video.views() <= 1) return last / 2;
  return static_cast<std::int64_t>(std::nearbyint(static_cast<double>(video.view()) * static_cast<double>(last) / static_cast<double>(video.views() - 1)));
}

inline std::vector<std::int64_t> clip_positions(std::int64_t start, std::int64_t frames, std::int64_t stride, std::int64_t length, bool loop) {
  std::vector<std::int64_t> positions;
  positions.reserve(static_cast<std::size_t>(frames));
  for (std::int64_t i = 0; i < frames; ++i) {
    const auto at = start + i * stride;
    positions.push_back(at < length ? at : loop ? at % length : length - 1);
  }
  return positions;
}

// What frames.dense and frames.clips share.
struct ClipOfFrames {
  std::int64_t frames;
  std::int64_t stride;
  const std::optional<double>& rate;
  bool loop;

  [[nodiscard]] std::vector<std::int64_t> choose(const Video& video, Rng& rng) const {
    const Timeline timeline(video, rate);
    return timeline.frames(clip_positions(clip_start(video, timeline.size(), frames, stride, rng), frames, stride, timeline.size(), loop));
  }
};

}  // namespace sluice
