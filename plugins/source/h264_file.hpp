// Encodes frames into one H.264 file (mp4), on the calling thread alone, the same bytes every time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

namespace sluice {

struct H264Settings {
  std::int64_t width = 0;
  std::int64_t height = 0;   // both even
  std::int64_t rate = 25;    // frames a second
  std::int64_t gop = 12;     // frames from one keyframe to the next, at most
  std::int64_t b_frames = 2; // in a row
  std::int64_t quantizer = 0;  // the same for every block; 0 is lossless
};

// Where a frame's bytes go: 4:2:0 planes with their row strides.
struct FramePlanes {
  std::uint8_t* data[3];
  std::int64_t stride[3];
};

// Writes beside `path` and renames, so that `path` is whole or absent. fill(t, planes) draws frame t in [0, frames).
// Throws sluice::Error: Code::io for the disk, Code::plugin where the FFmpeg libraries have no H.264 encoder.
void write_h264(const std::filesystem::path& path, const H264Settings& settings, std::int64_t frames,
                const std::function<void(std::int64_t, const FramePlanes&)>& fill);

// Whether a file is a complete mp4: its boxes fill it exactly. Finds what a power cut or a full disk left behind.
bool whole_mp4(const std::filesystem::path& path);

}  // namespace sluice
