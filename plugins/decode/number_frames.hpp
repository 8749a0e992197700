// Which packet shows which frame and when: from the container's time stamps, or from what a decoder showed.
#pragma once

#include <cstdint>
#include <vector>

#include "video_index.hpp"

namespace sluice::decode {

// The times of one packet as the container gave them, AV_NOPTS_VALUE where it gave none.
struct Stamp {
  std::int64_t shown;    // pts
  std::int64_t decoded;  // dts
  bool hidden;           // cut away by an edit list
};

// The container's own ideas of the frame rate; 0 where it has none.
struct RateGuess {
  double average = 0;
  double lowest = 0;
};

// The most frames that any codec lets a decoder hold back.
inline constexpr std::int32_t deepest_reorder = 16;

// Whether the stamps alone tell which frames are shown and in which order.
bool stamps_tell_order(const VideoIndex& index, const std::vector<Stamp>& stamps);

// Fills frame numbers, times and reorder depth of `index`.
void number_by_stamps(VideoIndex& index, const std::vector<Stamp>& stamps);
// Likewise, from the packets whose frames a decoder showed, in that order.
void number_as_shown(VideoIndex& index, const std::vector<Stamp>& stamps, const std::vector<std::int32_t>& shown, const RateGuess& guess);

// Fills rate and variable_rate from the times.
void set_rate(VideoIndex& index, const RateGuess& guess);

}  // namespace sluice::decode
