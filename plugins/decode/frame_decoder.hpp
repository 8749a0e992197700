// One libavcodec decoder with one thread, whose frames say which packet they come from.
#pragma once

#include <cstdint>

#include "libav.hpp"

namespace sluice::decode {

class FrameDecoder {
 public:
  // Which frames come out where decoding did not start at the beginning. As ffmpeg: H.264 keeps back what it decoded
  // before it was sure of its references. All: the caller knows where it may start.
  enum class Show { as_ffmpeg, all };

  // `reorder`: frames that have to be held back to show them in order. Throws Code::data if there is no such decoder.
  FrameDecoder(const AVCodecParameters& parameters, int reorder, Show show);

  // `skip` says which kinds of frames may be left undecoded, for this packet. Returns libav's status. Throws std::bad_alloc, as those below do.
  int send(AVPacket& packet, std::int64_t number, AVDiscard skip);
  // Asks for the frames still held back; reset() before the next send().
  int drain() {
    return with_memory([this] { return avcodec_send_packet(context_.get(), nullptr); });
  }
  void reset() { avcodec_flush_buffers(context_.get()); }

  // The next frame, or null. An error of libav ends in `status`, which is 0 otherwise.
  AVFrame* receive(int& status);
  // Of the packet which a received frame was decoded from.
  static std::int64_t number_of(const AVFrame& frame) { return frame.pts; }

  // Whether the decoder only logs that a checksum was wrong, and returns neither an error nor a mark.
  [[nodiscard]] bool reports_only_in_log() const { return context_->codec_id == AV_CODEC_ID_FFV1; }

  [[nodiscard]] const AVCodecContext& context() const { return *context_; }

 private:
  CodecPtr context_;
  FramePtr frame_;
};

}  // namespace sluice::decode
