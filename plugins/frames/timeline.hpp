// A video at the frame rate that a sampler wants: positions 0, 1, 2, ... on it, and the frame of the file that each shows.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <sluice/error.hpp>
#include <sluice/frames.hpp>

namespace sluice {

inline constexpr std::string_view rate_help = "frames a second to choose from, by the times at which frames are shown; default: the file's own";

// Without `rate` positions are the frames themselves. With it, position j is the frame that is on screen j / rate seconds
// after the first one (the last frame stays for the mean duration of a frame), so frames repeat where the file has fewer.
class Timeline {
 public:
  // Throws Code::data where a rate is asked of a file that has neither a rate nor times.
  Timeline(const Video& video, const std::optional<double>& rate) : video_(video), rate_(rate.value_or(0)) {
    if (!rate) {
      size_ = video.frames();
      return;
    }
    own_ = video.rate();
    const auto times = video.times();
    if (times.size() > 1 && times.back() > times.front()) own_ = static_cast<double>(times.size() - 1) / (times.back() - times.front());
    if (!(own_ > 0))
      throw Error(Code::data, "the video has no frame rate, so no frames at " + std::to_string(rate_) + " a second can be chosen",
                  "remove `rate`, or give the decoder one");
    const double seconds = (times.empty() ? static_cast<double>(video.frames() - 1) / own_ : times.back() - times.front()) + 1 / own_;
    size_ = std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(seconds * rate_ - rounding)));
  }

  [[nodiscard]] std::int64_t size() const { return size_; }

  [[nodiscard]] std::int64_t frame(std::int64_t position) const {
    if (rate_ == 0) return position;
    const double seconds = static_cast<double>(position) / rate_;
    const auto times = video_.times();
    std::int64_t last = 0;
    if (times.empty()) last = static_cast<std::int64_t>(std::floor(seconds * own_ + rounding));
    else last = (std::upper_bound(times.begin(), times.end(), times.front() + seconds + rounding / rate_) - times.begin()) - 1;
    return std::clamp<std::int64_t>(last, 0, video_.frames() - 1);
  }

  [[nodiscard]] std::vector<std::int64_t> frames(std::vector<std::int64_t> positions) const {
    for (auto& position : positions) position = frame(position);
    return positions;
  }

 private:
  static constexpr double rounding = 1e-6;  // of a frame: 3 / 10 s at 30 frames/s is frame 9, not 8

  Video video_;
  double rate_;
  double own_ = 0;
  std::int64_t size_ = 0;
};

}  // namespace sluice
