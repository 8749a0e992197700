// What the tests of decoders share: files made by the ffmpeg program, and what that program itself decodes from them.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "../support/plugin_host.hpp"
#include "../support/scratch_folder.hpp"

namespace sluice::testing {

using Numbers = std::vector<std::int64_t>;
using Bytes = std::vector<std::uint8_t>;

inline std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

inline std::string output_of(const std::string& command) {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::string out;
  char buffer[1 << 16];
  for (std::size_t n; pipe && (n = fread(buffer, 1, sizeof buffer, pipe.get())) > 0;) out.append(buffer, n);
  return out;
}

inline void shell(const std::string& command) {
  if (std::system(command.c_str()) != 0) throw std::runtime_error("failed: " + command);
}

// testsrc2 moves everywhere and counts its frames, so no two frames are alike. `codec`: arguments of ffmpeg's output.
inline std::string make_video(const std::filesystem::path& path, const std::string& codec, const std::string& size = "96x64", double seconds = 2, double rate = 25) {
  shell("ffmpeg -nostdin -loglevel error -y -f lavfi -i testsrc2=size=" + size + ":rate=" + std::to_string(rate) + ":duration=" + std::to_string(seconds) + " -threads 1 " + codec + " " + quoted(path.string()));
  return path.string();
}

// Oracle: every frame in order, as the ffmpeg program decodes and converts it, upright.
inline Bytes ffmpeg_frames(const std::string& path, const std::string& filter = "") {
  const auto raw = output_of("ffmpeg -nostdin -loglevel quiet -i " + quoted(path) + (filter.empty() ? "" : " -vf " + filter) + " -vsync passthrough -f rawvideo -pix_fmt rgb24 -");
  return {raw.begin(), raw.end()};
}

// Oracle: the times of all frames in the order in which they are shown, seconds from the first; nan where it has none.
inline std::vector<double> ffprobe_times(const std::string& path) {
  const auto text = output_of("ffprobe -loglevel quiet -select_streams v:0 -show_entries frame=best_effort_timestamp_time -of csv=p=0 " + quoted(path));
  std::vector<double> times;
  for (std::size_t at = 0; at < text.size(); at = text.find('\n', at) + 1) {
    times.push_back(text[at] == 'N' ? std::nan("") : std::strtod(text.c_str() + at, nullptr));  // N/A
    if (text.find('\n', at) == std::string::npos) break;
  }
  const double start = times.empty() ? 0 : times.front();
  for (auto& time : times) time -= start;
  return times;
}

inline Bytes decoded(Recipe& decoder, const std::string& path, const Numbers& frames) {
  FakeSample sample;
  decoder.decode(sample, path, frames);
  return sample.bytes("clip");
}

inline Numbers all_of(std::int64_t count) {
  Numbers numbers(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<std::int64_t>(i);
  return numbers;
}

// The first place at which a frame differs from the oracle's, in words; empty if none does.
inline std::string difference(const Bytes& clip, const Numbers& frames, const Bytes& all, std::size_t frame_bytes) {
  if (clip.size() != frames.size() * frame_bytes) return std::to_string(clip.size()) + " bytes for " + std::to_string(frames.size()) + " frames";
  for (std::size_t i = 0; i < frames.size(); ++i) {
    const auto at = static_cast<std::size_t>(frames[i]) * frame_bytes;
    if (at + frame_bytes > all.size()) return "the oracle has no frame " + std::to_string(frames[i]);
    if (!std::equal(all.begin() + static_cast<std::ptrdiff_t>(at), all.begin() + static_cast<std::ptrdiff_t>(at + frame_bytes), clip.begin() + static_cast<std::ptrdiff_t>(i * frame_bytes)))
      return "frame " + std::to_string(frames[i]) + " at place " + std::to_string(i);
  }
  return {};
}

// The message of the error, which must be of this kind; empty when none is thrown.
template <class Function> std::string thrown(Function&& function, Code code = Code::data) {
  try {
    function();
  } catch (const Error& error) {
    CHECK(error.code() == code);
    return error.message();
  }
  return {};
}

}  // namespace sluice::testing
