// Decodes the frames asked for, and as little beside them as it can.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "frame_decoder.hpp"
#include "input_file.hpp"
#include "libav.hpp"
#include "packet_source.hpp"
#include "runs.hpp"
#include "video_index.hpp"

namespace sluice::decode {

class FrameReader {
 public:
  // `unasked` is what may be skipped among the packets of frames that nobody asked for. Nothing but frames that no other
  // refers to can be, without changing the frames asked for.
  FrameReader(const InputFile& file, const VideoIndex& index, AVDiscard unasked = AVDISCARD_NONREF);

  // Calls take(frame number, picture) once for each of `frames` (ascending, each once), in the order of the file.
  // A frame is given only if it, and all that was decoded on the way to it, came without an error; else it throws
  // Code::data and names the frame.
  using Take = std::function<void(std::int64_t, const AVFrame&)>;
  void read(std::span<const std::int64_t> frames, const Take& take);

  // What was done so far.
  struct Work {
    std::int64_t packets = 0;  // given to the decoder
    std::int64_t runs = 0;     // stretches decoded
    std::int64_t retries = 0;  // those of them that were a second attempt
  };
  [[nodiscard]] const Work& work() const { return work_; }

 private:
  // Empty if all that is wanted of the run was given, else what went wrong.
  std::string decode(const Run& run, AVDiscard unasked, const Take& take);
  [[nodiscard]] bool is_pending(std::int32_t packet) const;
  [[noreturn]] void fail(std::int32_t packet, const std::string& why) const;

  const InputFile& file_;
  const VideoIndex& index_;
  AVDiscard unasked_;
  PacketSource source_;
  FrameDecoder decoder_;
  std::vector<std::int32_t> pending_;  // packets of the frames still to be given, ascending
  Work work_;
  bool used_ = false;
};

}  // namespace sluice::decode
