// The indices of the videos in use: in memory up to a bound, behind that on disk, behind that made anew.
#pragma once

#include <cstdint>
#include <filesystem>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "video_index.hpp"

namespace sluice::decode {

class IndexStore {
 public:
  explicit IndexStore(std::uint64_t most_bytes) : most_(most_bytes) {}

  // Of this state of the file. `folder`: where indices are kept on disk; empty: nowhere. Safe from several threads.
  std::shared_ptr<const VideoIndex> find(const InputFile& file, const std::filesystem::path& folder);

  [[nodiscard]] std::uint64_t held() const;  // bytes in memory, <= most_bytes

 private:
  struct Item {
    std::string path;
    std::shared_ptr<const VideoIndex> index;
  };

  std::shared_ptr<const VideoIndex> known(const std::string& path, const Identity& file);
  void keep(const std::string& path, std::shared_ptr<const VideoIndex> index);
  void forget(std::list<Item>::iterator item);

  const std::uint64_t most_;
  mutable std::mutex mutex_;
  std::list<Item> items_;  // the one used last comes first
  std::unordered_map<std::string, std::list<Item>::iterator> by_path_;
  std::uint64_t held_ = 0;
};

}  // namespace sluice::decode
