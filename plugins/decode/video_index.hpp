// What is known about a video file after its packets were looked at once: which packet each frame comes from, where it
// lies, when it is shown, and where decoding may start.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "input_file.hpp"
#include "libav.hpp"
#include "orientation.hpp"

namespace sluice::decode {

struct PacketEntry {
  std::int64_t offset = -1;  // of its bytes in the file
  std::int64_t time = 0;     // when it is shown, in ticks
  std::int32_t size = 0;
  std::int32_t frame = -1;   // number in order of presentation; -1: it shows nothing (cut away by an edit list, or empty)
  bool key = false;          // decoding may start here
  bool droppable = false;    // known that no other packet refers to it
};

struct VideoIndex {
  Identity file;
  ParametersPtr parameters;           // of the stream, as the container or the first packets say
  std::int32_t stream = 0;            // its number in the container
  double tick = 0;                    // seconds
  bool direct = false;                // packets can be read by offset, without the container's demuxer
  bool stamped = false;               // the container's time stamps give the order of frames; else a decoder gave it
  std::int32_t reorder = 0;           // frames that have to be held back to show them in order
  std::vector<PacketEntry> packets;   // in decoding order
  std::vector<std::int32_t> frames;   // frame number to packet number
  std::int64_t width = 0, height = 0; // as stored
  Orientation orientation;
  double rate = 0;                    // frames a second, the mean where it varies
  bool variable_rate = false;
  std::uint64_t working_set = 0;      // bytes that one decoder of this file takes

  [[nodiscard]] std::int64_t frame_count() const { return static_cast<std::int64_t>(frames.size()); }
  [[nodiscard]] const PacketEntry& packet_of(std::int64_t frame) const { return packets[static_cast<std::size_t>(frames[static_cast<std::size_t>(frame)])]; }
  [[nodiscard]] double seconds(std::int64_t frame) const {
    return static_cast<double>(packet_of(frame).time - packet_of(0).time) * tick;
  }
  [[nodiscard]] std::int64_t shown_width() const { return orientation.transpose ? height : width; }
  [[nodiscard]] std::int64_t shown_height() const { return orientation.transpose ? width : height; }
  // Of the index itself.
  [[nodiscard]] std::uint64_t bytes() const {
    return sizeof *this + packets.size() * sizeof(PacketEntry) + frames.size() * sizeof(std::int32_t) +
           (parameters ? static_cast<std::uint64_t>(parameters->extradata_size) : 0) + 512;
  }
};

}  // namespace sluice::decode
