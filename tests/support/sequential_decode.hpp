// Oracle: every frame of a video file in order, as libavcodec gives it, with nothing skipped, scaled or converted.
#pragma once

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
}

#include <array>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace sluice::testing {

struct DecodedFrame {
  int width = 0, height = 0;
  int format = -1;                                // AVPixelFormat
  char type = '?';                                // I, P or B
  std::array<std::vector<std::uint8_t>, 3> planes;  // without padding; chroma planes of 8-bit 4:2:0
  friend bool operator==(const DecodedFrame&, const DecodedFrame&) = default;
};

struct DecodedFile {
  std::string codec, profile;
  double rate = 0;
  std::vector<DecodedFrame> frames;
};

inline DecodedFile decode_all(const std::string& path) {
  const auto check = [&](int status) {
    if (status < 0) throw std::runtime_error("decode_all(" + path + "): libav error " + std::to_string(status));
  };
  AVFormatContext* opened = nullptr;
  check(avformat_open_input(&opened, path.c_str(), nullptr, nullptr));
  const std::unique_ptr<AVFormatContext, void (*)(AVFormatContext*)> format(opened, [](AVFormatContext* f) { avformat_close_input(&f); });
  check(avformat_find_stream_info(opened, nullptr));
  const AVCodec* codec = nullptr;
  const int number = av_find_best_stream(opened, AVMEDIA_TYPE_VIDEO, -1, -1, &codec, 0);
  check(number);
  const std::unique_ptr<AVCodecContext, void (*)(AVCodecContext*)> decoder(avcodec_alloc_context3(codec), [](AVCodecContext* c) { avcodec_free_context(&c); });
  check(avcodec_parameters_to_context(decoder.get(), opened->streams[number]->codecpar));
  decoder->thread_count = 1;
  check(avcodec_open2(decoder.get(), codec, nullptr));
  const std::unique_ptr<AVPacket, void (*)(AVPacket*)> packet(av_packet_alloc(), [](AVPacket* p) { av_packet_free(&p); });
  const std::unique_ptr<AVFrame, void (*)(AVFrame*)> frame(av_frame_alloc(), [](AVFrame* f) { av_frame_free(&f); });

  DecodedFile out;
  out.codec = codec->name;
  const char* profile = avcodec_profile_name(decoder->codec_id, decoder->profile);
  out.profile = profile ? profile : "";
  out.rate = av_q2d(opened->streams[number]->avg_frame_rate);
  const auto receive = [&] {
    while (avcodec_receive_frame(decoder.get(), frame.get()) == 0) {
      DecodedFrame copy{frame->width, frame->height, frame->format, av_get_picture_type_char(frame->pict_type), {}};
      for (std::size_t plane = 0; plane < 3; ++plane) {
        const int width = plane ? (copy.width + 1) / 2 : copy.width, height = plane ? (copy.height + 1) / 2 : copy.height;
        for (int y = 0; y < height; ++y) {
          const auto* row = frame->data[plane] + static_cast<std::ptrdiff_t>(y) * frame->linesize[plane];
          copy.planes[plane].insert(copy.planes[plane].end(), row, row + width);
        }
      }
      out.frames.push_back(std::move(copy));
    }
  };
  while (av_read_frame(opened, packet.get()) >= 0) {
    if (packet->stream_index == number) {
      check(avcodec_send_packet(decoder.get(), packet.get()));
      receive();
    }
    av_packet_unref(packet.get());
  }
  check(avcodec_send_packet(decoder.get(), nullptr));
  receive();
  return out;
}

}  // namespace sluice::testing
