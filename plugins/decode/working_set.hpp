// The bytes that one open decoder takes, by formula: admission needs them before anything is opened.
#pragma once

#include <cstdint>

#include "libav.hpp"
#include "target_size.hpp"

namespace sluice::decode {

// An upper bound of what decoding with one thread takes: the decoder's pictures, tables and packet. `references` and
// `held_back` as the stream declares them, `format` its AVPixelFormat, sizes as stored. The coefficients were measured;
// tests/decode/working_set_test.cpp holds them against what real decoders allocate.
std::uint64_t working_set(AVCodecID codec, std::int64_t width, std::int64_t height, int format, int references, int held_back);

// What is set aside for a video of which only the size is known: enough for 8 bits, 4:2:0 and as many reference frames as
// encoders use at such a size (16 up to 720p, 8 above). Streams that need more are refused when their head is read.
std::uint64_t ordinary_working_set(std::int64_t height, std::int64_t width);

// Turning, scaling and converting pictures into RGB of the size `shown`.
std::uint64_t conversion_bytes(std::int64_t height, std::int64_t width, Size shown);

}  // namespace sluice::decode
