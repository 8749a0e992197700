// Headers of video files as read before, on disk: a second start reads one file instead of thousands.
#pragma once

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <sluice/abi.hpp>

namespace sluice {

// What a file was when its header was read. A file that differs in it is another file.
struct FileState {
  std::uint64_t size = 0;
  std::int64_t modified = 0;  // nanoseconds
  std::uint64_t inode = 0;

  [[nodiscard]] std::uint64_t fingerprint() const;
};

struct FileLook {
  FileState state{};
  std::string problem{};  // why it cannot be read; empty: it looks readable
};
// Refuses what is neither a regular file nor a folder before anything opens it: a FIFO would hang its reader.
[[nodiscard]] FileLook look_at(const std::string& path);

// Keyed by decoder, path, size and time of change. A cache that is damaged or of another version counts as empty.
class HeaderCache {
 public:
  // An empty path: nothing is read or written.
  explicit HeaderCache(std::filesystem::path file);
  ~HeaderCache();
  HeaderCache(const HeaderCache&) = delete;
  HeaderCache& operator=(const HeaderCache&) = delete;

  [[nodiscard]] std::optional<abi::Header> find(std::string_view decoder, std::string_view path, const FileState& state) const;
  void put(std::string_view decoder, std::string_view path, const FileState& state, const abi::Header& header);  // thread-safe
  // Writes old and new headers, replacing the file in one step. Does nothing when nothing is new; a disk that refuses is no error.
  void save();

  struct Record;

 private:
  std::filesystem::path file_;
  const Record* records_ = nullptr;  // sorted, mapped from the file
  std::size_t count_ = 0;
  void* map_ = nullptr;
  std::size_t map_bytes_ = 0;
  std::mutex mutex_;
  std::vector<Record> fresh_;
};

}  // namespace sluice
