// Implements working_set.hpp.
#include "working_set.hpp"

#include <algorithm>

extern "C" {
#include <libavutil/pixdesc.h>
}

namespace sluice::decode {

namespace {

constexpr std::uint64_t kib = 1024;

std::uint64_t padded(std::int64_t pixels) { return static_cast<std::uint64_t>((pixels + 63) / 64 * 64 + 64); }

// Bits of a pixel over all planes, as stored.
std::uint64_t bits_of(int format) {
  const AVPixFmtDescriptor* layout = av_pix_fmt_desc_get(static_cast<AVPixelFormat>(format));
  return layout ? static_cast<std::uint64_t>(std::max(av_get_padded_bits_per_pixel(layout), 12)) : 64;
}

}  // namespace

std::uint64_t working_set(AVCodecID codec, std::int64_t width, std::int64_t height, int format, int references, int held_back) {
  const auto area = padded(width) * padded(height);
  const auto picture = area * bits_of(format) / 8;
  // Those referred to, those waiting to be shown, the one being decoded.
  std::uint64_t pictures = static_cast<std::uint64_t>(std::max(references, 1) + std::max(held_back, 0)) + 1;
  std::uint64_t beside = area / 2;  // tables of a picture: motion vectors, types of blocks
  if (codec != AV_CODEC_ID_H264 && codec != AV_CODEC_ID_HEVC) pictures = std::max<std::uint64_t>(pictures, 8);
  if (codec == AV_CODEC_ID_AV1) pictures = 16, beside = area;
  return pictures * (picture + beside) + picture + 2048 * kib;
}

std::uint64_t ordinary_working_set(std::int64_t height, std::int64_t width) {
  const int references = width * height <= 1280 * 720 ? 16 : 8;
  return working_set(AV_CODEC_ID_H264, width, height, AV_PIX_FMT_YUV420P, references, 4) + 1024 * kib;  // and an index
}

std::uint64_t conversion_bytes(std::int64_t height, std::int64_t width, Size shown) {
  const auto native = padded(width) * padded(height), out = padded(shown.width) * padded(shown.height);
  const auto lines = 64 * (padded(width) + padded(height) + padded(shown.width) + padded(shown.height));
  return native * 3 + out * 3 + out * 3 + lines + 512 * kib;
}

}  // namespace sluice::decode
