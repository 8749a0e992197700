// Reads the packets of an indexed file by their number: by offset where the index has offsets, else through the demuxer.
#pragma once

#include <cstdint>
#include <memory>

#include "container.hpp"
#include "input_file.hpp"
#include "libav.hpp"
#include "video_index.hpp"

namespace sluice::decode {

class PacketSource {
 public:
  PacketSource(const InputFile& file, const VideoIndex& index) : file_(file), index_(index), packet_(make_packet()) {}

  // Valid until the next call. Throws Code::data when the file does not hold it any more.
  AVPacket& read(std::int32_t number);

 private:
  void read_at(const PacketEntry& entry);
  void read_through(std::int32_t number);

  const InputFile& file_;
  const VideoIndex& index_;
  PacketPtr packet_;
  std::unique_ptr<Container> container_;  // only where there are no offsets
  std::int32_t next_ = 0;                 // the packet that container_ gives next
};

}  // namespace sluice::decode
