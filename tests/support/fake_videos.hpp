// Video files that are a line of text, and a sampler and a decoder for them.
//
//   const auto path = write_video(folder / "a.vid", {.frames = 120, .width = 64, .height = 48, .rate = 25});
#pragma once

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/support/fake_stages.hpp"

namespace sluice::testing {

struct FakeVideo {
  std::int64_t frames = 100, width = 16, height = 8;
  double rate = 25;
  std::vector<double> times{};  // not empty: variable rate
};

inline std::string write_video(const std::filesystem::path& path, const FakeVideo& video) {
  std::ofstream out(path);
  out.precision(17);
  out << "fake " << video.frames << ' ' << video.width << ' ' << video.height << ' ' << video.rate << ' ' << video.times.size();
  for (const double time : video.times) out << ' ' << time;
  return path.string();
}

inline FakeVideo read_video(const std::string& path) {
  std::ifstream in(path);
  std::string magic;
  FakeVideo video;
  std::size_t times = 0;
  in >> magic >> video.frames >> video.width >> video.height >> video.rate >> times;
  if (magic == "plugin") throw Error(Code::plugin, "the decoder is broken");
  if (!in || magic != "fake") throw Error(Code::data, "it is no video");
  video.times.resize(times);
  for (auto& time : video.times) in >> time;
  return video;
}

// Pixel (t, y, x, c) of frame n is a hash of the path's last letter, n, y, x and c.
struct FakeDecoder {
  static constexpr std::string_view plugin = "decode.fake";
  std::atomic<int>* probes = nullptr;  // counted where the test wants it
  std::uint64_t scratch = 1000;

  Header probe(const std::string& path) const {
    if (probes) ++*probes;
    const auto video = read_video(path);
    return {video.frames, video.width, video.height, video.rate, !video.times.empty()};
  }
  std::vector<double> times(const std::string& path) const {
    auto video = read_video(path);
    const bool constant = video.times.empty();
    for (std::int64_t i = 0; constant && i < video.frames; ++i) video.times.push_back(static_cast<double>(i) / video.rate);
    return video.times;
  }
  Info out(const Info& in) const {
    Info info = in;
    info.scratch = scratch;
    return info;
  }
  static std::uint8_t pixel(const std::string& path, std::int64_t frame, std::int64_t at) {
    return static_cast<std::uint8_t>(mix_bits(mix_bits(static_cast<std::uint64_t>(frame) * 31 + static_cast<unsigned char>(path[path.size() - 5])) + static_cast<std::uint64_t>(at)));
  }
  Clip operator()(const FrameRequest& request, Memory memory) const {
    const auto video = read_video(request.path);
    const auto count = static_cast<std::int64_t>(request.frames.size());
    Clip clip(memory.array(DType::u8, {count, video.height, video.width, 3}, "THWC"), memory);
    clip.set_rate(video.rate);
    const auto size = video.height * video.width * 3;
    for (std::int64_t t = 0; t < count; ++t) {
      const auto frame = request.frames[static_cast<std::size_t>(t)];
      request.times[static_cast<std::size_t>(t)] = video.times.empty() ? static_cast<double>(frame) / video.rate : video.times[static_cast<std::size_t>(frame)];
      for (std::int64_t i = 0; i < size; ++i) clip.array().data()[t * size + i] = pixel(request.path, frame, i);
    }
    return clip;
  }
};

// `count` frames from a random start, or from the part of the video that the view stands for; fewer where the video is short.
struct FakeFrames {
  static constexpr std::string_view plugin = "frames.fake";
  std::int64_t wanted = 4;
  std::int64_t own_views = 0;

  std::int64_t count(const Video& video) const { return std::min(wanted, video.frames()); }
  std::int64_t views(bool) const { return own_views; }
  std::vector<std::int64_t> operator()(const Video& video, Rng& rng) const {
    const auto n = count(video), room = video.frames() - n;
    const auto start = video.training() ? rng.index(room + 1) : video.views() > 1 ? room * video.view() / (video.views() - 1) : room / 2;
    std::vector<std::int64_t> frames;
    for (std::int64_t i = 0; i < n; ++i) frames.push_back(start + i);
    return frames;
  }
};
// One frame a second by the frames' own times.
struct FakeByTime {
  static constexpr std::string_view plugin = "frames.by_time";
  static constexpr bool wants_times = true;
  std::int64_t count(const Video& video) const { return static_cast<std::int64_t>(video.times().back()) + 1; }
  std::vector<std::int64_t> operator()(const Video& video, Rng&) const {
    std::vector<std::int64_t> frames;
    double next = 0;
    for (std::int64_t i = 0; i < video.frames(); ++i)
      if (video.time(i) >= next) frames.push_back(i), next += 1;
    frames.resize(static_cast<std::size_t>(count(video)), video.frames() - 1);
    return frames;
  }
};

}  // namespace sluice::testing
