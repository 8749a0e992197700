// Implements frame_decoder.hpp over libavcodec.
#include "frame_decoder.hpp"

#include <algorithm>
#include <new>
#include <string>

#include <sluice/error.hpp>

#include "limits.hpp"

namespace sluice::decode {

FrameDecoder::FrameDecoder(const AVCodecParameters& parameters, int reorder, Show show) : frame_(make_frame()) {
  LogScope log;
  const AVCodec* codec = avcodec_find_decoder(parameters.codec_id);
  if (!codec)
    throw Error(Code::data, std::string("libav has no decoder for ") + avcodec_get_name(parameters.codec_id),
                "convert it: ffmpeg -i IN -c:v libx264 OUT.mp4");
  context_.reset(avcodec_alloc_context3(codec));
  if (!context_) throw std::bad_alloc();
  with_memory([&] { return avcodec_parameters_to_context(context_.get(), &parameters); });
  context_->thread_count = 1;
  context_->max_pixels = max_pixels;
  if (show == Show::all) context_->flags |= AV_CODEC_FLAG_OUTPUT_CORRUPT;
  // H.264 marks the frames in which it concealed something; the other decoders only return errors, and only if asked to.
  if (parameters.codec_id != AV_CODEC_ID_H264) context_->err_recognition |= AV_EF_EXPLODE;
  // Without it H.264 guesses, and drops the frames that prove the guess wrong.
  context_->has_b_frames = std::max(context_->has_b_frames, reorder);
  if (const int status = with_memory([&] { return avcodec_open2(context_.get(), codec, nullptr); }); status < 0)
    throw Error(Code::data, std::string("the ") + codec->name + " decoder refuses the stream: " + log.explain(status));
}

int FrameDecoder::send(AVPacket& packet, std::int64_t number, AVDiscard skip) {
  packet.pts = number;  // decoders hand it on to the frame, and use it for nothing else
  packet.dts = AV_NOPTS_VALUE;
  packet.flags &= ~AV_PKT_FLAG_DISCARD;
  context_->skip_frame = skip;
  return with_memory([&] { return avcodec_send_packet(context_.get(), &packet); });
}

AVFrame* FrameDecoder::receive(int& status) {
  status = with_memory([&] { return avcodec_receive_frame(context_.get(), frame_.get()); });
  if (status >= 0) return frame_.get();
  if (status == AVERROR(EAGAIN) || status == AVERROR_EOF) status = 0;
  return nullptr;
}

}  // namespace sluice::decode
