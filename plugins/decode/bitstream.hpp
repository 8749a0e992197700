// What a packet's own headers say, where libav does not tell: whether H.264 can be decoded from here on, and whether
// anything refers to an HEVC picture.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sluice::decode {

using Bytes = std::span<const std::uint8_t>;

// The NAL units of a packet, without start codes or lengths. `length_bytes`: of the lengths before them, 0 where start
// codes separate them. What is cut off ends early.
std::vector<Bytes> nal_units(Bytes packet, int length_bytes);

// From the stream's extradata: how its packets separate NAL units (see above).
int h264_length_bytes(Bytes extradata);
int hevc_length_bytes(Bytes extradata);

// Whether all that is shown after this packet comes out exactly if decoding starts with it: an IDR picture, or a recovery
// point that says exact and at once. Containers also call those key that begin a gradual refresh.
bool h264_clean_start(Bytes packet, int length_bytes);

// An HEVC picture to which its temporal sub-layer does not refer can be left out if no sub-layer lies above it.
struct HevcPicture {
  bool referred_to = true;
  int layer = 0;
};
HevcPicture hevc_picture(Bytes packet, int length_bytes);

}  // namespace sluice::decode
