// What is the same in every decoder: the frames of a request, each once and in order, and each one's places in the clip.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <sluice/clip.hpp>
#include <sluice/error.hpp>

namespace sluice::decode {

// Ascending, without repeats. Throws Code::data for numbers that the file does not have.
inline std::vector<std::int64_t> each_once(std::span<const std::int64_t> asked, std::int64_t count, const std::string& name) {
  std::vector<std::int64_t> frames(asked.begin(), asked.end());
  std::sort(frames.begin(), frames.end());
  frames.erase(std::unique(frames.begin(), frames.end()), frames.end());
  if (!frames.empty() && (frames.front() < 0 || frames.back() >= count))
    throw Error(Code::data,
                name + ": frame " + std::to_string(frames.front() < 0 ? frames.front() : frames.back()) + " was asked for, and it has " +
                    std::to_string(count) + " frames",
                "the file may have been replaced; start again, so that headers are read anew");
  return frames;
}

// Calls make(place) for the first place of the clip that wants this frame, and copies the result to the others.
template <class Make> void place_frame(Clip& clip, std::span<const std::int64_t> asked, std::int64_t frame, Make&& make) {
  const std::uint8_t* made = nullptr;
  const auto bytes = static_cast<std::size_t>(clip.height() * clip.width() * clip.channels());
  for (std::size_t i = 0; i < asked.size(); ++i) {
    if (asked[i] != frame) continue;
    std::uint8_t* place = clip.frame(static_cast<std::int64_t>(i)).pixels;
    if (made) std::memcpy(place, made, bytes);
    else make(place), made = place;
  }
}

}  // namespace sluice::decode
