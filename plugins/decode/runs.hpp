// Which stretches of packets have to be decoded to get at some frames.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "video_index.hpp"

namespace sluice::decode {

// Packets first ... last, in decoding order; `first` is one where decoding may start.
struct Run {
  std::int32_t first;
  std::int32_t last;
  friend bool operator==(const Run&, const Run&) = default;
};

// The packet to start from so that packet `target` comes out right: the last key packet that is neither stored nor shown
// after it. A frame that is stored after a key frame and shown before it (open GOP) refers to the GOP before.
std::int32_t start_for(const VideoIndex& index, std::int32_t target);

// Decoding goes on from one wanted frame to the next unless a key frame lies between them. `packets`: the wanted ones,
// ascending, each once.
std::vector<Run> plan_runs(const VideoIndex& index, std::span<const std::int32_t> packets);

}  // namespace sluice::decode
