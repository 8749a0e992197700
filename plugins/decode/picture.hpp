// Turns decoded pictures into RGB bytes of the size wanted, upright.
#pragma once

#include <cstdint>

#include "libav.hpp"
#include "orientation.hpp"
#include "target_size.hpp"

namespace sluice::decode {

// One conversion of libswscale, set up again only when the pictures change.
class Conversion {
 public:
  // The result lives until the next call; its rows are padded as swscale's fast paths want them.
  const AVFrame& run(const AVFrame& from, Size size, int format, int flags);

 private:
  void prepare(const AVFrame& from, Size size, int format, int flags);

  ScalerPtr scaler_;
  FramePtr result_;
  int from_format_ = AV_PIX_FMT_NONE, from_width_ = 0, from_height_ = 0, space_ = 0, range_ = 0, flags_ = 0;
};

// At the native size every byte equals that of `ffmpeg -i FILE -pix_fmt rgb24` (swscale's bicubic, its default flags).
// Other sizes are swscale's bilinear, whose triangle widens when it scales down, so that nothing aliases; YUV pictures
// are scaled as such, with chroma of half the width, and converted when small: three times faster than the other way.
class Picture {
 public:
  // `shown`: the size of the output, after turning.
  Picture(Orientation turn, Size shown) : turn_(turn), shown_(shown) {}

  // Writes shown.height x shown.width x 3 bytes.
  void convert(const AVFrame& frame, std::uint8_t* to);

 private:
  const AVFrame& upright(const AVFrame& frame);

  Orientation turn_;
  Size shown_;
  Conversion scale_;
  Conversion colour_;
  FramePtr upright_;  // planes turned before the conversion
};

}  // namespace sluice::decode
