// Implements bitstream.hpp after ITU-T H.264 (7.3, D.1) and H.265 (7.4.2.2).
#include "bitstream.hpp"

#include <cstddef>

namespace sluice::decode {

namespace {

constexpr int h264_idr = 5, h264_messages = 6;
constexpr int recovery_point = 6;  // of the messages
constexpr int hevc_pictures = 32;  // types below carry pictures

// The payload with the bytes taken out that keep it from looking like a start code.
std::vector<std::uint8_t> without_escapes(Bytes unit) {
  std::vector<std::uint8_t> out;
  out.reserve(unit.size());
  int zeros = 0;
  for (const auto byte : unit) {
    if (zeros >= 2 && byte == 3) {
      zeros = 0;
      continue;
    }
    zeros = byte == 0 ? zeros + 1 : 0;
    out.push_back(byte);
  }
  return out;
}

// recovery_frame_cnt is ue(v), where the single bit 1 means 0; the next bit is exact_match_flag.
bool exact_at_once(Bytes message) { return !message.empty() && (message[0] & 0xC0) == 0xC0; }

bool has_exact_recovery_point(Bytes unit) {
  const auto bytes = without_escapes(unit.subspan(1));
  const auto number = [&](std::size_t& at) {
    std::size_t value = 0;
    for (; at < bytes.size() && bytes[at] == 0xFF; ++at) value += 255;
    return at < bytes.size() ? value + bytes[at++] : value;
  };
  for (std::size_t at = 0; at + 2 < bytes.size();) {
    const auto type = number(at);
    const auto size = number(at);
    if (size > bytes.size() - at) return false;
    if (type == recovery_point) return exact_at_once(Bytes(bytes).subspan(at, size));
    at += size;
  }
  return false;
}

}  // namespace

std::vector<Bytes> nal_units(Bytes packet, int length_bytes) {
  std::vector<Bytes> units;
  if (length_bytes > 0) {
    const auto head = static_cast<std::size_t>(length_bytes);
    while (packet.size() > head) {
      std::size_t length = 0;
      for (std::size_t i = 0; i < head; ++i) length = length << 8 | packet[i];
      packet = packet.subspan(head);
      length = std::min(length, packet.size());
      if (length > 0) units.push_back(packet.first(length));
      packet = packet.subspan(length);
    }
    return units;
  }
  std::size_t begin = 0;  // of the unit being read; 0: none yet
  for (std::size_t at = 0; at + 2 < packet.size(); ++at) {
    if (packet[at] != 0 || packet[at + 1] != 0 || packet[at + 2] != 1) continue;
    if (begin != 0 && at > begin) units.push_back(packet.subspan(begin, at - begin));
    begin = at + 3;
    at += 2;
  }
  if (begin != 0 && begin < packet.size()) units.push_back(packet.subspan(begin));
  return units;
}

int h264_length_bytes(Bytes extradata) { return extradata.size() > 6 && extradata[0] == 1 ? (extradata[4] & 3) + 1 : 0; }

int hevc_length_bytes(Bytes extradata) {
  const bool record = extradata.size() > 22 && (extradata[0] != 0 || extradata[1] != 0 || extradata[2] > 1);
  return record ? (extradata[21] & 3) + 1 : 0;
}

bool h264_clean_start(Bytes packet, int length_bytes) {
  for (const auto unit : nal_units(packet, length_bytes)) {
    const int type = unit[0] & 31;
    if (type == h264_idr || (type == h264_messages && has_exact_recovery_point(unit))) return true;
  }
  return false;
}

HevcPicture hevc_picture(Bytes packet, int length_bytes) {
  for (const auto unit : nal_units(packet, length_bytes)) {
    const int type = (unit[0] >> 1) & 63;
    if (unit.size() < 2 || type >= hevc_pictures) continue;
    return {type > 14 || type % 2 == 1, (unit[1] & 7) - 1};  // even types up to 14 end in _N: not referred to
  }
  return {};
}

}  // namespace sluice::decode
