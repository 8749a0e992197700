// Implements index_store.hpp.
#include "index_store.hpp"

#include "build_index.hpp"
#include "index_file.hpp"

namespace sluice::decode {

namespace {
// Of the containers around an index: two keys, a list and a table node.
std::uint64_t bytes_of(const std::string& path, const VideoIndex& index) { return index.bytes() + 2 * path.size() + 256; }
}  // namespace

std::shared_ptr<const VideoIndex> IndexStore::find(const InputFile& file, const std::filesystem::path& folder) {
  const auto path = absolute(file.path());
  if (auto index = known(path, file.identity())) return index;
  std::shared_ptr<const VideoIndex> made;
  if (auto stored = folder.empty() ? std::nullopt : load_index(folder, file)) {
    made = std::make_shared<const VideoIndex>(std::move(*stored));
  } else {
    made = std::make_shared<const VideoIndex>(build_index(file));
    if (!folder.empty()) store_index(folder, file, *made);
  }
  keep(path, made);
  return made;
}

std::uint64_t IndexStore::held() const {
  const std::lock_guard lock(mutex_);
  return held_;
}

std::shared_ptr<const VideoIndex> IndexStore::known(const std::string& path, const Identity& file) {
  const std::lock_guard lock(mutex_);
  const auto found = by_path_.find(path);
  if (found == by_path_.end()) return nullptr;
  if (found->second->index->file != file) {
    forget(found->second);
    return nullptr;
  }
  items_.splice(items_.begin(), items_, found->second);
  return items_.front().index;
}

void IndexStore::keep(const std::string& path, std::shared_ptr<const VideoIndex> index) {
  const std::lock_guard lock(mutex_);
  if (const auto found = by_path_.find(path); found != by_path_.end()) forget(found->second);
  held_ += bytes_of(path, *index);
  items_.push_front({path, std::move(index)});
  by_path_[path] = items_.begin();
  while (held_ > most_) forget(std::prev(items_.end()));
}

void IndexStore::forget(std::list<Item>::iterator item) {
  held_ -= bytes_of(item->path, *item->index);
  by_path_.erase(item->path);
  items_.erase(item);
}

}  // namespace sluice::decode
