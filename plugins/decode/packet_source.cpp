// Implements packet_source.hpp.
#include "packet_source.hpp"

#include <new>
#include <string>

#include <sluice/error.hpp>

namespace sluice::decode {

AVPacket& PacketSource::read(std::int32_t number) {
  av_packet_unref(packet_.get());
  const auto& entry = index_.packets[static_cast<std::size_t>(number)];
  if (index_.direct) read_at(entry);
  else read_through(number);
  return *packet_;
}

void PacketSource::read_at(const PacketEntry& entry) {
  if (av_new_packet(packet_.get(), entry.size) < 0) throw std::bad_alloc();
  const auto wanted = static_cast<std::size_t>(entry.size);
  if (file_.read(packet_->data, wanted, static_cast<std::uint64_t>(entry.offset)) != wanted)
    throw Error(Code::data, file_.name() + ": it ends at byte " + std::to_string(file_.identity().size) + ", inside a packet that was there before",
                "leave the data alone while a run reads it");
  if (entry.key) packet_->flags |= AV_PKT_FLAG_KEY;
}

// Demuxing is fast beside decoding; going back means starting anew, which gives the numbers of the index again.
void PacketSource::read_through(std::int32_t number) {
  if (!container_ || number < next_) {
    container_ = std::make_unique<Container>(file_);
    next_ = 0;
  }
  while (container_->read(*packet_)) {
    if (packet_->size == 0) continue;
    if (next_++ == number) return;
  }
  throw Error(Code::data, file_.name() + ": it ends before packet " + std::to_string(number) + ", which was there before",
              "leave the data alone while a run reads it");
}

}  // namespace sluice::decode
