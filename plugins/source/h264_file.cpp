// One encoder, one muxer, one file in memory, then one write and one rename.
#include "h264_file.hpp"

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/opt.h>
}

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <span>
#include <string>

#include <sluice/error.hpp>

namespace sluice {
namespace {

struct FreeCodec { void operator()(AVCodecContext* c) const { avcodec_free_context(&c); } };
struct FreeFormat { void operator()(AVFormatContext* f) const { avformat_free_context(f); } };
struct FreeFrame { void operator()(AVFrame* f) const { av_frame_free(&f); } };
struct FreePacket { void operator()(AVPacket* p) const { av_packet_free(&p); } };
struct FreeBytes { void operator()(std::uint8_t* b) const { av_free(b); } };
struct CloseBuffer {
  void operator()(AVIOContext* io) const {
    std::uint8_t* bytes = nullptr;
    avio_close_dyn_buf(io, &bytes);
    av_free(bytes);
  }
};

int checked(int status, const char* doing) {
  if (status >= 0) return status;
  char text[AV_ERROR_MAX_STRING_SIZE] = {};
  av_strerror(status, text, sizeof text);
  throw Error(Code::plugin, std::string("H.264 encoder: ") + doing + ": " + text);
}

std::unique_ptr<AVCodecContext, FreeCodec> open_encoder(const H264Settings& settings, bool global_header) {
  const AVCodec* codec = avcodec_find_encoder_by_name("libx264");
  if (!codec) throw Error(Code::plugin, "the FFmpeg libraries on this machine have no encoder libx264", "install one that has (Debian, Ubuntu: apt install libavcodec59 or libavcodec-extra59)");
  std::unique_ptr<AVCodecContext, FreeCodec> encoder(avcodec_alloc_context3(codec));
  encoder->width = static_cast<int>(settings.width);
  encoder->height = static_cast<int>(settings.height);
  encoder->pix_fmt = AV_PIX_FMT_YUV420P;
  encoder->color_range = AVCOL_RANGE_MPEG;
  encoder->colorspace = AVCOL_SPC_SMPTE170M;
  encoder->time_base = {1, static_cast<int>(settings.rate)};
  encoder->framerate = {static_cast<int>(settings.rate), 1};
  encoder->gop_size = static_cast<int>(settings.gop);
  encoder->max_b_frames = static_cast<int>(settings.b_frames);
  encoder->thread_count = 1;
  encoder->log_level_offset = AV_LOG_DEBUG;  // the encoder tells its statistics as "info"; nobody asked
  encoder->flags |= AV_CODEC_FLAG_BITEXACT | (global_header ? AV_CODEC_FLAG_GLOBAL_HEADER : 0);
  // A constant quantizer and nothing that looks ahead: how a block is coded must not depend on where things will move to.
  AVDictionary* options = nullptr;
  av_dict_set(&options, "preset", "veryfast", 0);
  av_dict_set_int(&options, "qp", settings.quantizer, 0);
  av_dict_set(&options, "x264-params", "mbtree=0:aq-mode=0:scenecut=0:rc-lookahead=0:b-adapt=0:threads=1", 0);
  const int opened = avcodec_open2(encoder.get(), codec, &options);
  av_dict_free(&options);
  checked(opened, "opening");
  return encoder;
}

// The whole file's bytes.
std::span<std::uint8_t> encode(const H264Settings& settings, std::int64_t frames, const std::function<void(std::int64_t, const FramePlanes&)>& fill,
                               std::unique_ptr<std::uint8_t, FreeBytes>& bytes) {
  AVFormatContext* made = nullptr;
  checked(avformat_alloc_output_context2(&made, nullptr, "mp4", nullptr), "making an mp4");
  const std::unique_ptr<AVFormatContext, FreeFormat> format(made);
  format->flags |= AVFMT_FLAG_BITEXACT;
  const auto encoder = open_encoder(settings, (format->oformat->flags & AVFMT_GLOBALHEADER) != 0);
  AVStream* stream = avformat_new_stream(format.get(), nullptr);
  if (!stream) throw std::bad_alloc();
  checked(avcodec_parameters_from_context(stream->codecpar, encoder.get()), "describing the stream");
  stream->time_base = encoder->time_base;
  stream->avg_frame_rate = encoder->framerate;

  AVIOContext* memory = nullptr;
  checked(avio_open_dyn_buf(&memory), "making a buffer");
  std::unique_ptr<AVIOContext, CloseBuffer> buffer(memory);
  format->pb = buffer.get();
  checked(avformat_write_header(format.get(), nullptr), "writing the head");

  const std::unique_ptr<AVFrame, FreeFrame> frame(av_frame_alloc());
  const std::unique_ptr<AVPacket, FreePacket> packet(av_packet_alloc());
  if (!frame || !packet) throw std::bad_alloc();
  frame->format = encoder->pix_fmt;
  frame->width = encoder->width;
  frame->height = encoder->height;
  checked(av_frame_get_buffer(frame.get(), 0), "making a frame");
  for (std::int64_t t = 0; t <= frames; ++t) {  // the last turn drains the encoder
    if (t < frames) {
      checked(av_frame_make_writable(frame.get()), "making a frame");
      fill(t, {{frame->data[0], frame->data[1], frame->data[2]}, {frame->linesize[0], frame->linesize[1], frame->linesize[2]}});
      frame->pts = t;
    }
    checked(avcodec_send_frame(encoder.get(), t < frames ? frame.get() : nullptr), "sending a frame");
    for (;;) {
      const int status = avcodec_receive_packet(encoder.get(), packet.get());
      if (status == AVERROR(EAGAIN) || status == AVERROR_EOF) break;
      checked(status, "receiving a packet");
      packet->stream_index = stream->index;
      packet->duration = 1;
      av_packet_rescale_ts(packet.get(), encoder->time_base, stream->time_base);
      checked(av_interleaved_write_frame(format.get(), packet.get()), "writing a packet");
    }
  }
  checked(av_write_trailer(format.get()), "writing the end");
  std::uint8_t* raw = nullptr;
  const int size = avio_close_dyn_buf(buffer.release(), &raw);
  bytes.reset(raw);
  return {raw, static_cast<std::size_t>(size)};
}

[[noreturn]] void disk_error(const std::filesystem::path& path, int error) {
  throw Error(Code::io, "cannot write " + path.string() + ": " + std::strerror(error), error == ENOSPC ? "make room on the disk, or put the data elsewhere (root)" : "");
}

}  // namespace

void write_h264(const std::filesystem::path& path, const H264Settings& settings, std::int64_t frames,
                const std::function<void(std::int64_t, const FramePlanes&)>& fill) {
  std::unique_ptr<std::uint8_t, FreeBytes> bytes;
  auto rest = encode(settings, frames, fill, bytes);

  const std::filesystem::path beside = path.string() + ".part";
  const int file = ::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file < 0) disk_error(beside, errno);
  int error = 0;
  while (!rest.empty() && error == 0) {
    const auto written = ::write(file, rest.data(), rest.size());
    if (written >= 0) rest = rest.subspan(static_cast<std::size_t>(written));
    else if (errno != EINTR) error = errno;
  }
  if (::close(file) != 0 && error == 0) error = errno;
  if (error == 0 && ::rename(beside.c_str(), path.c_str()) != 0) error = errno;
  if (error != 0) {
    ::unlink(beside.c_str());
    disk_error(path, error);
  }
}

bool whole_mp4(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return false;
  const auto size = static_cast<std::uint64_t>(file.tellg());
  std::uint64_t at = 0;
  bool has_index = false;
  while (at + 8 <= size) {
    std::array<unsigned char, 8> head{};
    file.seekg(static_cast<std::streamoff>(at));
    if (!file.read(reinterpret_cast<char*>(head.data()), head.size())) return false;
    const std::uint64_t length = std::uint64_t{head[0]} << 24 | std::uint64_t{head[1]} << 16 | std::uint64_t{head[2]} << 8 | head[3];
    if (length < 8) return false;
    has_index = has_index || std::memcmp(head.data() + 4, "moov", 4) == 0;
    at += length;
  }
  return has_index && at == size;
}

}  // namespace sluice
