// The bytes that one open decoder takes, by formula: admission needs them before anything is opened.
#pragma once

#include <cstdint>

#include "libav.hpp"

namespace sluice::decode {

// An upper bound of what decoding with one thread takes: the decoder's pictures, tables and packet. `references` and
// `held_back` as the stream declares them, `format` its AVPixelFormat, sizes as stored. The coefficients were measured;
// tests/decode/working_set_test.cpp holds them against the resident memory of real decoders.
std::uint64_t working_set(AVCodecID codec, std::int64_t width, std::int64_t height, int format, int references, int held_back);

}  // namespace sluice::decode
