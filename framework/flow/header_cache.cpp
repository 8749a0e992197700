// A sorted table of fixed records, mapped for reading, rewritten whole.
#include "framework/flow/header_cache.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <system_error>
#include <tuple>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <sluice/rng.hpp>

namespace sluice {

struct HeaderCache::Record {
  std::uint64_t key[2];
  std::uint64_t size;
  std::int64_t modified;
  std::int64_t frames;
  std::int32_t width;
  std::int32_t height;
  double rate;
  std::uint64_t variable;

  friend bool operator<(const Record& a, const Record& b) { return std::tie(a.key[0], a.key[1]) < std::tie(b.key[0], b.key[1]); }
};

namespace {

using Record = HeaderCache::Record;

struct Head {
  char magic[8];
  std::uint64_t count;
  std::uint64_t checksum;
};
constexpr char magic[8] = {'S', 'L', 'H', 'E', 'A', 'D', 'S', '1'};
constexpr std::size_t most_records = std::size_t{1} << 22;  // beyond it, what this run did not read is forgotten

Record keyed(std::string_view decoder, std::string_view path) {
  std::string both(decoder);
  both += '\0';
  both += path;
  const auto hash = XXH3_128bits(both.data(), both.size());
  Record record{};
  record.key[0] = hash.high64;
  record.key[1] = hash.low64;
  return record;
}

}  // namespace

std::uint64_t FileState::fingerprint() const { return mix_bits(mix_bits(mix_bits(size) ^ static_cast<std::uint64_t>(modified)) ^ inode); }

FileLook look_at(const std::string& path) {
  FileLook look;
  struct stat found {};
  if (path.find('\0') != std::string::npos) {
    look.problem = "its name holds a zero byte";
  } else if (stat(path.c_str(), &found) != 0) {
    look.problem = std::system_category().message(errno);
  } else if (!S_ISREG(found.st_mode) && !S_ISDIR(found.st_mode)) {
    look.problem = S_ISFIFO(found.st_mode) ? "it is a FIFO, not a file" : S_ISSOCK(found.st_mode) ? "it is a socket, not a file" : "it is a device, not a file";
  } else if (S_ISREG(found.st_mode) && found.st_size == 0) {
    look.problem = "the file is empty";
  } else if (access(path.c_str(), R_OK) != 0) {
    look.problem = std::system_category().message(errno);
  } else {
    look.state = {static_cast<std::uint64_t>(found.st_size), found.st_mtim.tv_sec * 1000000000LL + found.st_mtim.tv_nsec, found.st_ino};
  }
  return look;
}

HeaderCache::HeaderCache(std::filesystem::path file) : file_(std::move(file)) {
  if (file_.empty()) return;
  const int fd = open(file_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a FIFO is not waited for
  if (fd < 0) return;
  struct stat found {};
  if (fstat(fd, &found) == 0 && S_ISREG(found.st_mode) && static_cast<std::size_t>(found.st_size) >= sizeof(Head)) {
    map_bytes_ = static_cast<std::size_t>(found.st_size);
    map_ = mmap(nullptr, map_bytes_, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map_ == MAP_FAILED) map_ = nullptr;
  }
  close(fd);
  if (!map_) return;
  Head head{};
  std::memcpy(&head, map_, sizeof head);
  const auto* body = static_cast<const char*>(map_) + sizeof head;
  const auto bytes = map_bytes_ - sizeof head;
  if (std::memcmp(head.magic, magic, sizeof magic) != 0 || bytes % sizeof(Record) != 0 || head.count != bytes / sizeof(Record) ||
      XXH3_64bits(body, bytes) != head.checksum)
    return;
  records_ = reinterpret_cast<const Record*>(body);
  count_ = head.count;
}

HeaderCache::~HeaderCache() {
  if (map_) munmap(map_, map_bytes_);
}

std::optional<abi::Header> HeaderCache::find(std::string_view decoder, std::string_view path, const FileState& state) const {
  const auto wanted = keyed(decoder, path);
  const auto* found = std::lower_bound(records_, records_ + count_, wanted);
  if (found == records_ + count_ || wanted < *found || found->size != state.size || found->modified != state.modified) return std::nullopt;
  return abi::Header{sizeof(abi::Header), found->variable != 0 ? 1u : 0u, found->frames, found->width, found->height, found->rate};
}

void HeaderCache::put(std::string_view decoder, std::string_view path, const FileState& state, const abi::Header& header) {
  auto record = keyed(decoder, path);
  record.size = state.size;
  record.modified = state.modified;
  record.frames = header.frames;
  record.width = static_cast<std::int32_t>(header.width);
  record.height = static_cast<std::int32_t>(header.height);
  record.rate = header.rate;
  record.variable = header.variable_rate;
  const std::lock_guard lock(mutex_);
  fresh_.push_back(record);
}

void HeaderCache::save() {
  const std::lock_guard lock(mutex_);
  if (file_.empty() || fresh_.empty()) return;
  std::stable_sort(fresh_.begin(), fresh_.end());
  std::vector<Record> all;
  if (count_ + fresh_.size() <= most_records) {
    all.reserve(count_ + fresh_.size());
    for (std::size_t i = 0; i < count_; ++i)
      if (!std::binary_search(fresh_.begin(), fresh_.end(), records_[i])) all.push_back(records_[i]);
  }
  all.insert(all.end(), fresh_.begin(), fresh_.end());
  std::inplace_merge(all.begin(), all.end() - static_cast<std::ptrdiff_t>(fresh_.size()), all.end());

  Head head{};
  std::memcpy(head.magic, magic, sizeof magic);
  head.count = all.size();
  head.checksum = XXH3_64bits(all.data(), all.size() * sizeof(Record));
  std::error_code ignored;
  std::filesystem::create_directories(file_.parent_path(), ignored);
  const auto fresh_file = std::filesystem::path(fmt::format("{}.{}.tmp", file_.string(), getpid()));
  std::ofstream out(fresh_file, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(&head), sizeof head);
  out.write(reinterpret_cast<const char*>(all.data()), static_cast<std::streamsize>(all.size() * sizeof(Record)));
  out.close();
  if (out) std::filesystem::rename(fresh_file, file_, ignored);
  else std::filesystem::remove(fresh_file, ignored);
  fresh_.clear();
}

}  // namespace sluice
