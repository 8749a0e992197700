// Implements container.hpp over libavformat.
#include "container.hpp"

#include <algorithm>
#include <cerrno>
#include <new>

#include <sluice/error.hpp>

namespace sluice::decode {

namespace {

constexpr int io_buffer_bytes = 64 * 1024;

// Playlists and reference movies name other files and addresses: a video of a data set has no business to.
int refuse_to_open(AVFormatContext*, AVIOContext**, const char*, int, AVDictionary**) { return AVERROR(EPERM); }

}  // namespace

int Container::read_bytes(void* self, std::uint8_t* to, int bytes) {
  auto& container = *static_cast<Container*>(self);
  try {
    const auto got = container.file_.read(to, static_cast<std::size_t>(bytes), container.position_);
    container.position_ += got;
    return got == 0 ? AVERROR_EOF : static_cast<int>(got);
  } catch (const Error&) {
    return AVERROR(EIO);
  } catch (const std::bad_alloc&) {
    return AVERROR(ENOMEM);
  }
}

std::int64_t Container::seek_bytes(void* self, std::int64_t offset, int whence) {
  auto& container = *static_cast<Container*>(self);
  const auto size = static_cast<std::int64_t>(container.file_.identity().size);
  if (whence & AVSEEK_SIZE) return size;
  whence &= ~AVSEEK_FORCE;
  if (whence == SEEK_CUR) offset += static_cast<std::int64_t>(container.position_);
  if (whence == SEEK_END) offset += size;
  if (offset < 0) return AVERROR(EINVAL);
  container.position_ = static_cast<std::uint64_t>(offset);
  return offset;
}

Container::Container(const InputFile& file) : file_(file) {
  LogScope log;
  auto* buffer = static_cast<unsigned char*>(av_malloc(io_buffer_bytes));
  if (!buffer) throw std::bad_alloc();
  io_.reset(avio_alloc_context(buffer, io_buffer_bytes, 0, this, &read_bytes, nullptr, &seek_bytes));
  if (!io_) {
    av_free(buffer);
    throw std::bad_alloc();
  }
  AVFormatContext* format = avformat_alloc_context();
  if (!format) throw std::bad_alloc();
  format->pb = io_.get();
  format->io_open = &refuse_to_open;
  format->protocol_whitelist = av_strdup("none");  // the concat demuxer opens what it names past `io_open`
  format->codec_whitelist = av_strdup("none");  // so that looking for stream parameters decodes nothing
  if (!format->protocol_whitelist || !format->codec_whitelist) {
    avformat_free_context(format);
    throw std::bad_alloc();
  }
  // The name serves only to guess a format by its extension: all bytes come through `pb`.
  const auto open = [&] {
    const int status = avformat_open_input(&format, file.path().c_str(), nullptr, nullptr);  // frees `format` where it fails
    if (status >= 0) format_.reset(format);
    return status;
  };
  if (const int status = with_memory(open); status < 0)
    throw Error(Code::data, file.name() + ": it is no video file that libav can read: " + log.explain(status),
                "play it with ffplay; if it was copied or downloaded, do so again");
  if (const int status = with_memory([&] { return avformat_find_stream_info(format, nullptr); }); status < 0)
    throw Error(Code::data, file.name() + ": its streams cannot be read: " + log.explain(status));
  choose_stream(file.name());
}

// As ffmpeg does without -map: the largest picture, the stream marked as default before others.
void Container::choose_stream(const std::string& name) {
  std::string kinds;
  std::int64_t best = -1;
  for (unsigned i = 0; i < format_->nb_streams; ++i) {
    AVStream* stream = format_->streams[i];
    const auto& parameters = *stream->codecpar;
    const bool cover = (stream->disposition & AV_DISPOSITION_ATTACHED_PIC) != 0;
    const char* kind = av_get_media_type_string(parameters.codec_type);
    kinds += (i ? ", " : "") + std::string(cover ? "cover picture" : kind ? kind : "unknown");
    stream->discard = AVDISCARD_ALL;
    if (parameters.codec_type != AVMEDIA_TYPE_VIDEO || cover) continue;
    const std::int64_t score = std::int64_t{parameters.width} * parameters.height + ((stream->disposition & AV_DISPOSITION_DEFAULT) ? 5'000'000 : 0);
    if (score > best) {
      best = score;
      video_ = stream;
    }
  }
  if (!video_)
    throw Error(Code::data, name + ": it holds no video stream (" + format_name() + " with " + (kinds.empty() ? "no stream" : kinds) + ")",
                "take it out of the list, or name the file with the pictures");
  video_->discard = AVDISCARD_DEFAULT;
}

std::string Container::format_name() const { return format_->iformat ? format_->iformat->name : "unknown format"; }

bool Container::read(AVPacket& packet) {
  for (;;) {
    av_packet_unref(&packet);
    ended_ = with_memory([&] { return av_read_frame(format_.get(), &packet); });
    if (ended_ < 0) return false;
    if (packet.stream_index == video_->index) return true;
  }
}

bool Container::seek(std::int64_t decoding_time) {
  return av_seek_frame(format_.get(), video_->index, decoding_time, AVSEEK_FLAG_BACKWARD) >= 0;
}

}  // namespace sluice::decode
