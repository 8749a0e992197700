// Implements index_file.hpp: one file an index, named by the hash of the video's path, with a checksum at its end.
#include "index_file.hpp"

#include <array>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <new>
#include <string>
#include <type_traits>

#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace sluice::decode {

namespace {

constexpr char magic[8] = {'s', 'l', 'u', 'i', 'c', 'e', 'v', 'i'};
constexpr std::uint32_t layout = 1;  // raise it when anything below, or what an index means, changes
constexpr std::uint64_t largest_stored = std::uint64_t{1} << 28;

std::filesystem::path place_of(const std::filesystem::path& folder, const std::string& path) {
  const auto hash = XXH3_128bits(path.data(), path.size());
  char name[33];
  std::snprintf(name, sizeof name, "%016llx%016llx", static_cast<unsigned long long>(hash.high64), static_cast<unsigned long long>(hash.low64));
  return folder / "video-index" / std::string(name, 2) / (std::string(name + 2) + ".bin");
}

// Both directions in one list of members: what is written is what is read.
class Writer {
 public:
  template <class T> void value(const T& from) {
    static_assert(std::is_trivially_copyable_v<T>);
    bytes.append(reinterpret_cast<const char*>(&from), sizeof from);
  }
  template <class T> void list(const std::vector<T>& from) {
    value(static_cast<std::uint64_t>(from.size()));
    bytes.append(reinterpret_cast<const char*>(from.data()), from.size() * sizeof(T));
  }
  std::string bytes;
};

class Reader {
 public:
  explicit Reader(std::string_view bytes) : left_(bytes) {}
  template <class T> void value(T& to) { take(&to, sizeof to); }
  template <class T> void list(std::vector<T>& to) {
    std::uint64_t count = 0;
    value(count);
    if (count > left_.size() / sizeof(T)) good_ = false;
    if (!good_) return;
    to.resize(count);
    take(to.data(), count * sizeof(T));
  }
  [[nodiscard]] bool complete() const { return good_ && left_.empty(); }

 private:
  void take(void* to, std::size_t bytes) {
    good_ = good_ && bytes <= left_.size();
    if (!good_ || bytes == 0) return;
    std::memcpy(to, left_.data(), bytes);
    left_.remove_prefix(bytes);
  }
  std::string_view left_;
  bool good_ = true;
};

// What of the stream's parameters a decoder looks at.
template <class Archive, class Parameters> void parameters_of(Archive& archive, Parameters& p) {
  archive.value(p.codec_type), archive.value(p.codec_id), archive.value(p.codec_tag), archive.value(p.format), archive.value(p.bit_rate);
  archive.value(p.bits_per_coded_sample), archive.value(p.bits_per_raw_sample), archive.value(p.profile), archive.value(p.level);
  archive.value(p.width), archive.value(p.height), archive.value(p.sample_aspect_ratio), archive.value(p.field_order), archive.value(p.color_range);
  archive.value(p.color_primaries), archive.value(p.color_trc), archive.value(p.color_space), archive.value(p.chroma_location), archive.value(p.video_delay);
}

template <class Archive, class Index> void members_of(Archive& archive, Index& index) {
  archive.value(index.stream), archive.value(index.tick), archive.value(index.direct), archive.value(index.stamped), archive.value(index.reorder);
  archive.value(index.width), archive.value(index.height), archive.value(index.orientation), archive.value(index.rate), archive.value(index.variable_rate);
  archive.value(index.working_set), archive.list(index.frames);
}

// A packet is stored member by member: padding inside the struct would be unset bytes.
template <class Archive, class Packet> void packet_of(Archive& archive, Packet& packet) {
  archive.value(packet.offset), archive.value(packet.time), archive.value(packet.size), archive.value(packet.frame), archive.value(packet.key), archive.value(packet.droppable);
}

struct Head {
  char magic[8];
  std::uint32_t layout;
  std::uint32_t libavcodec;
  std::uint64_t size;
  std::int64_t modified_ns;
};

Head head_of(const Identity& file) {
  Head head{{}, layout, avcodec_version(), file.size, file.modified_ns};
  std::memcpy(head.magic, magic, sizeof magic);
  return head;
}

// Whatever the bytes are, the frames of the index lie in its packets.
bool makes_sense(const VideoIndex& index) {
  if (index.packets.empty() || index.frames.empty()) return false;
  for (const auto packet : index.frames)
    if (packet < 0 || static_cast<std::size_t>(packet) >= index.packets.size()) return false;
  return true;
}

}  // namespace

std::optional<VideoIndex> load_index(const std::filesystem::path& folder, const InputFile& file) {
  const auto path = absolute(file.path());
  const auto place = place_of(folder, path);
  std::error_code none;
  if (!std::filesystem::is_regular_file(place, none)) return std::nullopt;
  std::ifstream in(place, std::ios::binary | std::ios::ate);
  if (!in) return std::nullopt;
  const auto size = static_cast<std::uint64_t>(in.tellg());
  if (size < sizeof(Head) + sizeof(XXH64_hash_t) || size > largest_stored) return std::nullopt;
  std::string bytes(size, '\0');
  in.seekg(0);
  if (!in.read(bytes.data(), static_cast<std::streamsize>(size))) return std::nullopt;

  XXH64_hash_t checksum = 0;
  std::memcpy(&checksum, bytes.data() + size - sizeof checksum, sizeof checksum);
  const std::string_view body(bytes.data(), size - sizeof checksum);
  const auto head = head_of(file.identity());
  if (XXH3_64bits(body.data(), body.size()) != checksum || std::memcmp(body.data(), &head, sizeof head) != 0) return std::nullopt;

  Reader reader(body.substr(sizeof head));
  std::vector<char> name;
  reader.list(name);
  if (std::string_view(name.data(), name.size()) != path) return std::nullopt;
  VideoIndex index;
  index.file = file.identity();
  index.parameters.reset(avcodec_parameters_alloc());
  if (!index.parameters) throw std::bad_alloc();
  parameters_of(reader, *index.parameters);
  std::vector<std::uint8_t> extra;
  reader.list(extra);
  if (!extra.empty()) {
    index.parameters->extradata = static_cast<std::uint8_t*>(av_mallocz(extra.size() + AV_INPUT_BUFFER_PADDING_SIZE));
    if (!index.parameters->extradata) throw std::bad_alloc();
    std::memcpy(index.parameters->extradata, extra.data(), extra.size());
    index.parameters->extradata_size = static_cast<int>(extra.size());
  }
  members_of(reader, index);
  std::uint64_t packets = 0;
  reader.value(packets);
  if (packets > size) return std::nullopt;
  index.packets.resize(packets);
  for (auto& packet : index.packets) packet_of(reader, packet);
  if (!reader.complete() || !makes_sense(index)) return std::nullopt;
  return index;
}

void store_index(const std::filesystem::path& folder, const InputFile& file, const VideoIndex& index) {
  static std::atomic<unsigned> count = 0;
  const auto path = absolute(file.path());
  Writer writer;
  writer.value(head_of(index.file));
  writer.list(std::vector<char>(path.begin(), path.end()));
  parameters_of(writer, *index.parameters);
  const auto* extra = index.parameters->extradata;
  writer.list(std::vector<std::uint8_t>(extra, extra + (extra ? index.parameters->extradata_size : 0)));
  members_of(writer, index);
  writer.value(static_cast<std::uint64_t>(index.packets.size()));
  for (const auto& packet : index.packets) packet_of(writer, packet);
  writer.value(XXH3_64bits(writer.bytes.data(), writer.bytes.size()));

  const auto target = place_of(folder, path);
  std::error_code failed;
  std::filesystem::create_directories(target.parent_path(), failed);
  char suffix[48];
  std::snprintf(suffix, sizeof suffix, ".%d.%u.tmp", static_cast<int>(::getpid()), count++);
  auto temporary = target;
  temporary += suffix;
  {
    std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
    out.write(writer.bytes.data(), static_cast<std::streamsize>(writer.bytes.size()));
    out.close();
    if (!out) {
      std::filesystem::remove(temporary, failed);
      return;
    }
  }
  std::filesystem::rename(temporary, target, failed);
  if (failed) std::filesystem::remove(temporary, failed);
}

}  // namespace sluice::decode
