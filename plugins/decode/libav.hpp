// libav's C structs, each wrapped once, and what libav says about a failure.
#pragma once

#include <cerrno>
#include <memory>
#include <new>
#include <string>

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/mem.h>
#include <libswscale/swscale.h>
}

namespace sluice::decode {

struct CloseFormat {
  void operator()(AVFormatContext* context) const { avformat_close_input(&context); }
};
struct FreeCodec {
  void operator()(AVCodecContext* context) const { avcodec_free_context(&context); }
};
struct FreeParameters {
  void operator()(AVCodecParameters* parameters) const { avcodec_parameters_free(&parameters); }
};
struct FreePacket {
  void operator()(AVPacket* packet) const { av_packet_free(&packet); }
};
struct FreeFrame {
  void operator()(AVFrame* frame) const { av_frame_free(&frame); }
};
struct FreeScaler {
  void operator()(SwsContext* context) const { sws_freeContext(context); }
};
struct FreeIo {
  void operator()(AVIOContext* io) const {
    av_freep(&io->buffer);  // libav may have replaced the one it was given
    avio_context_free(&io);
  }
};

using FormatPtr = std::unique_ptr<AVFormatContext, CloseFormat>;
using CodecPtr = std::unique_ptr<AVCodecContext, FreeCodec>;
using ParametersPtr = std::unique_ptr<AVCodecParameters, FreeParameters>;
using PacketPtr = std::unique_ptr<AVPacket, FreePacket>;
using FramePtr = std::unique_ptr<AVFrame, FreeFrame>;
using ScalerPtr = std::unique_ptr<SwsContext, FreeScaler>;
using IoPtr = std::unique_ptr<AVIOContext, FreeIo>;

PacketPtr make_packet();  // these three throw std::bad_alloc
FramePtr make_frame();
ParametersPtr copy_of(const AVCodecParameters& parameters);

// The status of a call of libav. Throws std::bad_alloc where the call found no memory, whatever it says: it calls some of that damage, and some
// it conceals, with pictures that are not the file's. The C library leaves ENOMEM where an allocation failed.
template <class Call> int with_memory(Call&& call) {
  errno = 0;
  const int status = call();
  if (status == AVERROR(ENOMEM) || errno == ENOMEM) throw std::bad_alloc();
  return status;
}

// While one lives, the errors that libav logs on this thread are kept here; outside of it libav logs nothing.
class LogScope {
 public:
  LogScope();
  ~LogScope();
  LogScope(const LogScope&) = delete;
  LogScope& operator=(const LogScope&) = delete;

  // libav's name for the code and the first thing it complained of since the last clear(), e.g. "Invalid data found when
  // processing input; h264: error while decoding MB 3 5".
  [[nodiscard]] std::string explain(int code) const;
  void clear() { first_.clear(); }

 private:
  static void receive(void* source, int level, const char* format, va_list arguments);

  std::string first_;
  LogScope* outer_;
};

}  // namespace sluice::decode
