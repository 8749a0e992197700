// Implements picture.hpp over libswscale.
#include "picture.hpp"

#include <new>
#include <string>

#include <sluice/error.hpp>

extern "C" {
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
}

namespace sluice::decode {

namespace {

FramePtr make_picture(int format, int width, int height) {
  auto frame = make_frame();
  frame->format = format;
  frame->width = width;
  frame->height = height;
  if (av_frame_get_buffer(frame.get(), 0) < 0) throw std::bad_alloc();
  return frame;
}

// Bytes of an element of each plane if the planes can be turned one by one: one component a plane, chroma as coarse
// along as across. 0 otherwise.
int turnable_bytes(int format) {
  const AVPixFmtDescriptor* layout = av_pix_fmt_desc_get(static_cast<AVPixelFormat>(format));
  if (!layout || layout->log2_chroma_w != layout->log2_chroma_h || (layout->flags & (AV_PIX_FMT_FLAG_PAL | AV_PIX_FMT_FLAG_BITSTREAM))) return 0;
  const int bytes = layout->comp[0].step;
  for (int i = 0; i < layout->nb_components; ++i)
    if (layout->comp[i].plane != i || layout->comp[i].step != bytes) return 0;
  return bytes == 1 || bytes == 2 ? bytes : 0;
}

void turn_plane(int bytes, const Orientation& turn, const std::uint8_t* from, int from_stride, int height, int width, std::uint8_t* to, int to_stride) {
  if (bytes == 1) orient<1>(turn, from, from_stride, height, width, to, to_stride);
  else orient<2>(turn, from, from_stride, height, width, to, to_stride);
}

int coefficients_of(int space) { return space < 1 || space > 10 || space == AVCOL_SPC_RESERVED ? SWS_CS_DEFAULT : space; }

// Old names that stand for full range.
bool full_range_format(int format) { return format == AV_PIX_FMT_YUVJ420P || format == AV_PIX_FMT_YUVJ422P || format == AV_PIX_FMT_YUVJ444P; }

// Pictures that swscale scales and converts fast in two steps.
bool two_steps(int format) {
  return format == AV_PIX_FMT_YUV420P || format == AV_PIX_FMT_YUVJ420P || format == AV_PIX_FMT_YUV422P || format == AV_PIX_FMT_YUVJ422P;
}

}  // namespace

void Conversion::prepare(const AVFrame& from, Size size, int format, int flags) {
  if (scaler_ && from.format == from_format_ && from.width == from_width_ && from.height == from_height_ && from.colorspace == space_ &&
      from.color_range == range_ && result_->format == format && result_->width == size.width && result_->height == size.height && flags == flags_)
    return;
  from_format_ = from.format;
  from_width_ = from.width;
  from_height_ = from.height;
  space_ = from.colorspace;
  range_ = from.color_range;
  flags_ = flags;
  result_ = make_picture(format, static_cast<int>(size.width), static_cast<int>(size.height));
  scaler_.reset(sws_alloc_context());
  if (!scaler_) throw std::bad_alloc();
  SwsContext* scaler = scaler_.get();
  av_opt_set_int(scaler, "srcw", from.width, 0);
  av_opt_set_int(scaler, "srch", from.height, 0);
  av_opt_set_int(scaler, "src_format", from.format, 0);
  av_opt_set_int(scaler, "dstw", size.width, 0);
  av_opt_set_int(scaler, "dsth", size.height, 0);
  av_opt_set_int(scaler, "dst_format", format, 0);
  av_opt_set_int(scaler, "sws_flags", flags, 0);
  if (from.format == AV_PIX_FMT_YUV420P) av_opt_set_int(scaler, "src_v_chr_pos", 128, 0);  // as ffmpeg's scale filter does
  if (with_memory([&] { return sws_init_context(scaler, nullptr, nullptr); }) < 0) {
    const char* name = av_get_pix_fmt_name(static_cast<AVPixelFormat>(from.format));
    throw Error(Code::data, std::string("pictures of the format ") + (name ? name : "unknown") + " cannot be turned into RGB");
  }
  int* from_table = nullptr;
  int* to_table = nullptr;
  int from_full = 0, to_full = 0, brightness = 0, contrast = 0, saturation = 0;
  sws_getColorspaceDetails(scaler, &from_table, &from_full, &to_table, &to_full, &brightness, &contrast, &saturation);
  if (from.color_range != AVCOL_RANGE_UNSPECIFIED) from_full = from.color_range == AVCOL_RANGE_JPEG ? 1 : 0;
  if (format != AV_PIX_FMT_RGB24) to_full = from_full;  // between YUV formats values stay as they are
  const int* table = sws_getCoefficients(coefficients_of(from.colorspace));
  sws_setColorspaceDetails(scaler, table, from_full, table, to_full, brightness, contrast, saturation);
}

const AVFrame& Conversion::run(const AVFrame& from, Size size, int format, int flags) {
  prepare(from, size, format, flags);
  sws_scale(scaler_.get(), from.data, from.linesize, 0, from.height, result_->data, result_->linesize);
  result_->colorspace = from.colorspace;
  result_->color_range = full_range_format(from.format) ? AVCOL_RANGE_JPEG : from.color_range;
  return *result_;
}

// ffmpeg turns planes before it converts: interpolated chroma would differ otherwise.
const AVFrame& Picture::upright(const AVFrame& frame) {
  const int bytes = turnable_bytes(frame.format);
  const AVPixFmtDescriptor* layout = av_pix_fmt_desc_get(static_cast<AVPixelFormat>(frame.format));
  const int width = turn_.transpose ? frame.height : frame.width;
  const int height = turn_.transpose ? frame.width : frame.height;
  if (!upright_ || upright_->format != frame.format || upright_->width != width || upright_->height != height)
    upright_ = make_picture(frame.format, width, height);
  upright_->colorspace = frame.colorspace;
  upright_->color_range = frame.color_range;
  for (int plane = 0; plane < layout->nb_components; ++plane) {
    const bool chroma = plane == 1 || plane == 2;
    const int shift = chroma ? layout->log2_chroma_w : 0;
    turn_plane(bytes, turn_, frame.data[plane], frame.linesize[plane], AV_CEIL_RSHIFT(frame.height, shift), AV_CEIL_RSHIFT(frame.width, shift),
               upright_->data[plane], upright_->linesize[plane]);
  }
  return *upright_;
}

void Picture::convert(const AVFrame& frame, std::uint8_t* to) {
  LogScope quiet;
  const Size native{turn_.transpose ? frame.width : frame.height, turn_.transpose ? frame.height : frame.width};
  const bool scaled = native != shown_;
  const bool turn_first = !scaled && !turn_.identity() && turnable_bytes(frame.format) > 0;
  const Orientation after = turn_first ? Orientation{} : turn_;
  const Size size = after.transpose ? Size{shown_.width, shown_.height} : shown_;

  const AVFrame* picture = turn_first ? &upright(frame) : &frame;
  if (scaled && two_steps(frame.format)) picture = &scale_.run(*picture, size, AV_PIX_FMT_YUV422P, SWS_BILINEAR);
  const AVFrame& rgb = colour_.run(*picture, size, AV_PIX_FMT_RGB24, scaled ? SWS_BILINEAR : SWS_BICUBIC);
  orient<3>(after, rgb.data[0], rgb.linesize[0], size.height, size.width, to, shown_.width * 3);
}

}  // namespace sluice::decode
