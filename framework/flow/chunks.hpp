// A long clip goes through the graph in chunks: which of its frames each one carries, and which of those count.
//
//   frames of the clip   0         64        128       192 200
//   chunk 1 of 4         .....[hhh|#########|hhh]...........     64 frames that count, a halo on each side
//   chunk 3 of 4         ....................[hhh|########]     at an end of the clip there is no halo: the network pads there, as it would the whole clip
#pragma once

#include <algorithm>
#include <cstdint>

namespace sluice {

struct Chunking {
  std::int64_t frames = 0;  // of a chunk; 0: clips go through whole
  std::int64_t halo = 0;    // further frames on each side, where the clip has them
  [[nodiscard]] bool on() const { return frames > 0; }
  friend bool operator==(const Chunking&, const Chunking&) = default;
};

// In training a clip goes through twice: once for what its head needs, once for the gradient.
enum class ChunkPass : std::uint8_t { features, gradients };

// Frames are counted within the clip.
struct ChunkPlace {
  ChunkPass pass = ChunkPass::features;
  std::int64_t clip_frames = 0;     // 0: not known, for the clip cannot be used
  std::int64_t begin = 0, end = 0;  // frames that count
  std::int64_t first = 0, last = 0;  // frames that are there: [first, last)
  bool ends_pass = false;
  bool ends_clip = false;   // nothing of this clip follows in this phase
  bool ends_batch = false;  // nor of its logical batch
};

constexpr std::int64_t chunks_of(std::int64_t clip_frames, const Chunking& chunking) { return (clip_frames + chunking.frames - 1) / chunking.frames; }

constexpr ChunkPlace chunk_at(std::int64_t clip_frames, const Chunking& chunking, std::int64_t number) {
  ChunkPlace place;
  place.clip_frames = clip_frames;
  place.begin = number * chunking.frames;
  place.end = std::min(clip_frames, place.begin + chunking.frames);
  place.first = std::max<std::int64_t>(0, place.begin - chunking.halo);
  place.last = std::min(clip_frames, place.end + chunking.halo);
  place.ends_pass = place.end == clip_frames;
  return place;
}

}  // namespace sluice
