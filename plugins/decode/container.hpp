// A container file, opened for reading its first video stream packet after packet.
#pragma once

#include <cstdint>
#include <string>

#include "input_file.hpp"
#include "libav.hpp"

namespace sluice::decode {

class Container {
 public:
  // Throws Code::data for what is no container, or holds no video. Decodes nothing, opens no other file and no address.
  explicit Container(const InputFile& file);

  [[nodiscard]] AVStream& video() { return *video_; }
  [[nodiscard]] std::string format_name() const;

  // The next packet of the video stream; false at the end of what can be read, with the reason in `ended`.
  bool read(AVPacket& packet);
  [[nodiscard]] int ended() const { return ended_; }

  // Goes to where packets of about this decoding time are; false if the container cannot.
  bool seek(std::int64_t decoding_time);

 private:
  static int read_bytes(void* self, std::uint8_t* to, int bytes);
  static std::int64_t seek_bytes(void* self, std::int64_t offset, int whence);
  void choose_stream(const std::string& name);

  const InputFile& file_;
  std::uint64_t position_ = 0;
  IoPtr io_;
  FormatPtr format_;  // destroyed before io_
  AVStream* video_ = nullptr;
  int ended_ = 0;
};

}  // namespace sluice::decode
