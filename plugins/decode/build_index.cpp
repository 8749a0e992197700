// Builds a VideoIndex: one pass over the packets, and as few decoded frames as will do.
#include "build_index.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <sluice/error.hpp>

#include "bitstream.hpp"
#include "container.hpp"
#include "frame_decoder.hpp"
#include "limits.hpp"
#include "number_frames.hpp"
#include "packet_source.hpp"
#include "working_set.hpp"

namespace sluice::decode {

namespace {

// Where the packet's bytes lie, looked for from its place on: a container puts a few bytes of its own before them.
std::int64_t locate(const InputFile& file, const AVPacket& packet, std::vector<std::uint8_t>& window) {
  constexpr std::size_t slack = 64;
  if (packet.pos < 0) return -1;
  const auto size = static_cast<std::size_t>(packet.size);
  window.resize(size + slack);
  const auto got = file.read(window.data(), window.size(), static_cast<std::uint64_t>(packet.pos));
  const void* found = memmem(window.data(), got, packet.data, size);
  return found ? packet.pos + (static_cast<const std::uint8_t*>(found) - window.data()) : -1;
}

// A new palette or new parameter sets, which hold for all that follows.
bool changes_decoder(const AVPacket& packet) {
  for (int i = 0; i < packet.side_data_elems; ++i) {
    const auto type = packet.side_data[i].type;
    if (type == AV_PKT_DATA_PALETTE || type == AV_PKT_DATA_NEW_EXTRADATA || type == AV_PKT_DATA_PARAM_CHANGE) return true;
  }
  return false;
}

// Fewer frames than the head promises: the file was cut off, or its head lies.
void check_promise(const InputFile& file, Container& container, std::int64_t delivered, const std::vector<Stamp>& stamps) {
  const std::int64_t promised = container.video().nb_frames;
  std::int64_t came = delivered;
  // AVI counts the places of frames, also of those that were dropped when it was recorded and have no packet.
  if (container.format_name() == "avi")
    for (const auto& stamp : stamps)
      if (stamp.decoded != AV_NOPTS_VALUE) came = std::max(came, stamp.decoded + 1);
  const std::int64_t tolerated = container.format_name() == "avi" ? 1 : 0;  // some writers count one more than they write
  if (promised - came > tolerated)
    throw Error(Code::data,
                file.name() + ": its head promises " + std::to_string(promised) + " frames and it holds " + std::to_string(came) +
                    "; it was cut off, or its head is wrong",
                "copy it again, or keep what is there: ffmpeg -i IN -c copy OUT");
}

// A packet that ends with the file. Transport streams also mark what follows a gap: there the decoder will tell.
void check_whole(const InputFile& file, Container& container, const AVPacket& packet) {
  const auto size = file.identity().size;
  if (container.format_name() == "mpegts" || packet.pos < 0 || static_cast<std::uint64_t>(packet.pos) + static_cast<std::uint64_t>(packet.size) < size) return;
  throw Error(Code::data, file.name() + ": it was cut off: it ends at byte " + std::to_string(size) + ", inside a frame",
              "copy it again, or keep what is there: ffmpeg -i IN -c copy OUT");
}

// Fills packets and direct. Returns the time stamps.
std::vector<Stamp> read_packets(const InputFile& file, Container& container, VideoIndex& index) {
  std::vector<Stamp> stamps;
  std::vector<HevcPicture> pictures;
  const auto packet = make_packet();
  std::vector<std::uint8_t> window;
  const auto& parameters = *container.video().codecpar;
  const Bytes extradata(parameters.extradata, static_cast<std::size_t>(parameters.extradata_size));
  const bool h264 = parameters.codec_id == AV_CODEC_ID_H264;
  const bool hevc = parameters.codec_id == AV_CODEC_ID_HEVC;
  const int length_bytes = h264 ? h264_length_bytes(extradata) : hevc_length_bytes(extradata);
  std::int64_t delivered = 0;
  bool changes = false;
  index.direct = true;
  while (container.read(*packet)) {
    ++delivered;
    if ((packet->flags & AV_PKT_FLAG_CORRUPT) != 0) check_whole(file, container, *packet);
    if (packet->size == 0) continue;  // a frame that was dropped when it was recorded
    if (index.packets.size() >= static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()))
      throw Error(Code::data, file.name() + ": it holds more than 2^31 packets", "cut it into pieces");
    PacketEntry entry;
    entry.size = packet->size;
    const Bytes bytes(packet->data, static_cast<std::size_t>(packet->size));
    entry.key = (packet->flags & AV_PKT_FLAG_KEY) != 0 && (!h264 || h264_clean_start(bytes, length_bytes));
    if (index.direct) entry.offset = locate(file, *packet, window);
    index.direct = index.direct && entry.offset >= 0;
    changes = changes || changes_decoder(*packet);
    index.packets.push_back(entry);
    stamps.push_back({packet->pts, packet->dts, (packet->flags & AV_PKT_FLAG_DISCARD) != 0});
    if (hevc) pictures.push_back(hevc_picture(bytes, length_bytes));
  }
  if (changes) {
    // Decoding starts at the first packet then, whatever is wanted, and the demuxer tells about the changes.
    index.direct = false;
    for (std::size_t i = 1; i < index.packets.size(); ++i) index.packets[i].key = false;
  }
  int highest = 0;
  for (const auto& picture : pictures) highest = std::max(highest, picture.layer);
  for (std::size_t i = 0; i < pictures.size(); ++i) index.packets[i].droppable = !pictures[i].referred_to && pictures[i].layer == highest;

  check_promise(file, container, delivered, stamps);
  if (index.packets.empty())
    throw Error(Code::data, file.name() + ": its video stream (" + avcodec_get_name(parameters.codec_id) + ") holds no frame",
                "copy it again, or take it out of the list");
  return stamps;
}

// What one decoded frame tells that the container may not know, or know wrongly.
struct FirstLook {
  std::int64_t width = 0, height = 0;
  int format = AV_PIX_FMT_NONE;
  int references = 0;
  int held_back = 0;
  std::optional<Orientation> orientation;

  void take(const AVFrame& frame, const AVCodecContext& context) {
    if (width != 0) return;
    width = frame.width;
    height = frame.height;
    format = frame.format;
    references = context.refs;
    held_back = context.has_b_frames;
    const AVFrameSideData* side = av_frame_get_side_data(&frame, AV_FRAME_DATA_DISPLAYMATRIX);
    if (side && side->size >= 9 * sizeof(std::int32_t)) {
      std::int32_t matrix[9];
      std::memcpy(matrix, side->data, sizeof matrix);
      orientation = orientation_of(matrix);
    }
  }
};

// Decodes packets from `first` on until shown(packet number) returns false. Returns libav's first complaint.
template <class Shown>
std::string decode_from(const InputFile& file, const VideoIndex& index, std::int32_t first, int reorder, FirstLook& look, Shown&& shown) {
  PacketSource source(file, index);
  FrameDecoder decoder(*index.parameters, reorder, FrameDecoder::Show::as_ffmpeg);
  LogScope log;
  std::string complaint;
  bool more = true;
  const auto take = [&](int status) {
    do {
      if (status < 0 && complaint.empty()) complaint = log.explain(status);
      while (AVFrame* frame = decoder.receive(status)) {
        look.take(*frame, decoder.context());
        if (more) more = shown(static_cast<std::int32_t>(FrameDecoder::number_of(*frame)));
      }
    } while (status < 0);
  };
  const auto count = static_cast<std::int32_t>(index.packets.size());
  for (std::int32_t number = first; more && number < count; ++number) take(decoder.send(source.read(number), number, AVDISCARD_DEFAULT));
  if (more) take(decoder.drain());
  return complaint;
}

// Decodes the first frame that can be. False if it turns out that the stamps do not give the order of the frames: some
// writers store the order of decoding as that of showing.
bool look_at_first_frame(const InputFile& file, const VideoIndex& index, FirstLook& look) {
  constexpr int enough = 32;
  std::string complaint;
  int tries = 0;
  const auto count = static_cast<std::int32_t>(index.packets.size());
  for (std::int32_t number = 0; number < count && tries < 3; ++number) {
    if (number > 0 && !index.packets[static_cast<std::size_t>(number)].key) continue;
    ++tries;
    std::int32_t last = -1;
    bool ordered = true;
    int shown = 0;
    const auto said = decode_from(file, index, number, index.reorder, look, [&](std::int32_t packet) {
      const auto frame = index.packets[static_cast<std::size_t>(packet)].frame;
      if (frame >= 0) ordered = ordered && frame > last;
      last = std::max(last, frame);
      return look.held_back > index.reorder && ordered && ++shown < enough;
    });
    if (look.width != 0) return ordered;
    if (complaint.empty()) complaint = said;
  }
  throw Error(Code::data, file.name() + ": no frame of it can be decoded (" + avcodec_get_name(index.parameters->codec_id) + "): " + complaint,
              "play it with ffplay; if it was copied or downloaded, do so again");
}

}  // namespace

VideoIndex build_index(const InputFile& file) {
  VideoIndex index;
  index.file = file.identity();
  RateGuess guess;
  std::vector<Stamp> stamps;
  {
    Container container(file);
    auto& stream = container.video();
    check_size(file.name(), std::max(stream.codecpar->width, 1), std::max(stream.codecpar->height, 1));
    index.parameters = copy_of(*stream.codecpar);
    index.tick = av_q2d(stream.time_base);
    guess = {av_q2d(stream.avg_frame_rate), av_q2d(stream.r_frame_rate)};
    if (const auto* matrix = av_stream_get_side_data(&stream, AV_PKT_DATA_DISPLAYMATRIX, nullptr)) {
      std::int32_t values[9];
      std::memcpy(values, matrix, sizeof values);
      index.orientation = orientation_of(values);
    }
    stamps = read_packets(file, container, index);
  }

  FirstLook look;
  index.stamped = stamps_tell_order(index, stamps);
  if (index.stamped) {
    number_by_stamps(index, stamps);
    index.stamped = look_at_first_frame(file, index, look);
  }
  if (!index.stamped) {
    std::vector<std::int32_t> shown;
    const auto complaint = decode_from(file, index, 0, deepest_reorder, look, [&](std::int32_t number) {
      if (!stamps[static_cast<std::size_t>(number)].hidden) shown.push_back(number);
      return true;
    });
    if (shown.empty())
      throw Error(Code::data, file.name() + ": no frame of it can be decoded (" + avcodec_get_name(index.parameters->codec_id) + "): " + complaint);
    number_as_shown(index, stamps, shown, guess);
  }
  set_rate(index, guess);
  index.width = look.width;
  index.height = look.height;
  check_size(file.name(), index.width, index.height);
  if (look.orientation) index.orientation = *look.orientation;
  index.working_set = working_set(index.parameters->codec_id, index.width, index.height, look.format, look.references, look.held_back);
  file.check_unchanged();
  return index;
}

}  // namespace sluice::decode
