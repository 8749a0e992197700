// Interned texts and columns.
#include "framework/flow/entries.hpp"

#include <algorithm>
#include <functional>

#include <sluice/fields.hpp>

namespace sluice {
namespace {

std::pair<std::string_view, std::string_view> at_last_slash(std::string_view text) {
  const auto slash = text.rfind('/');
  const auto cut = slash == std::string_view::npos ? 0 : slash + 1;
  return {text.substr(0, cut), text.substr(cut)};
}

std::size_t hash_of(std::string_view text) { return std::hash<std::string_view>()(text); }

template <class T> void keep_marked(std::vector<T>& column, const std::vector<bool>& kept) {
  if (column.empty()) return;
  std::size_t to = 0;
  for (std::size_t from = 0; from < kept.size(); ++from)
    if (kept[from]) column[to++] = column[from];
  column.resize(to);
  column.shrink_to_fit();
}

}  // namespace

std::string TextPool::get(std::uint32_t number) const {
  const auto& piece = texts_.at(number);
  return folders_[piece.folder] + bytes_.substr(piece.offset, piece.length);
}

std::uint64_t TextPool::length(std::uint32_t number) const {
  const auto& piece = texts_.at(number);
  return folders_[piece.folder].size() + piece.length;
}

bool TextPool::equal(const Piece& piece, std::string_view text) const {
  const auto& folder = folders_[piece.folder];
  return text.size() == folder.size() + piece.length && text.starts_with(folder) &&
         text.substr(folder.size()) == std::string_view(bytes_).substr(piece.offset, piece.length);
}

std::uint32_t TextPool::add_folder(std::string_view folder) {
  if (folders_.size() * 2 >= folder_table_.size()) {
    folder_table_.assign(std::max<std::size_t>(16, folder_table_.size() * 2), 0);
    for (std::uint32_t i = 0; i < folders_.size(); ++i) {
      auto at = hash_of(folders_[i]) & (folder_table_.size() - 1);
      while (folder_table_[at] != 0) at = (at + 1) & (folder_table_.size() - 1);
      folder_table_[at] = i + 1;
    }
  }
  auto at = hash_of(folder) & (folder_table_.size() - 1);
  for (; folder_table_[at] != 0; at = (at + 1) & (folder_table_.size() - 1))
    if (folders_[folder_table_[at] - 1] == folder) return folder_table_[at] - 1;
  folders_.emplace_back(folder);
  folder_table_[at] = static_cast<std::uint32_t>(folders_.size());
  return folder_table_[at] - 1;
}

void TextPool::grow() {
  table_.assign(std::max<std::size_t>(64, table_.size() * 2), 0);
  for (std::uint32_t i = 0; i < texts_.size(); ++i) {
    auto at = hash_of(get(i)) & (table_.size() - 1);
    while (table_[at] != 0) at = (at + 1) & (table_.size() - 1);
    table_[at] = i + 1;
  }
}

std::uint32_t TextPool::add(std::string_view text) {
  if (texts_.size() * 2 >= table_.size()) grow();
  if (texts_.size() >= no_text - 1) throw Error(Code::data, "the source lists more than 4 billion texts");
  auto at = hash_of(text) & (table_.size() - 1);
  for (; table_[at] != 0; at = (at + 1) & (table_.size() - 1))
    if (equal(texts_[table_[at] - 1], text)) return table_[at] - 1;
  const auto [folder, name] = at_last_slash(text);
  const auto folder_number = add_folder(folder);
  texts_.push_back({folder_number, static_cast<std::uint32_t>(name.size()), bytes_.size()});
  bytes_ += name;
  table_[at] = static_cast<std::uint32_t>(texts_.size());
  return table_[at] - 1;
}

void TextPool::finish() {
  std::vector<std::uint32_t>().swap(table_);
  std::vector<std::uint32_t>().swap(folder_table_);
  bytes_.shrink_to_fit();
  texts_.shrink_to_fit();
}

int Rows::stream(std::string_view name) const {
  const auto found = std::find(streams.begin(), streams.end(), name);
  return found == streams.end() ? -1 : static_cast<int>(found - streams.begin());
}

void Rows::add(TextPool& pool, const abi::Entry& entry) {
  const auto row = labels.size();
  labels.push_back(static_cast<std::int32_t>(entry.label));
  origins.push_back(pool.add({entry.origin.data, entry.origin.size}));
  for (auto& column : texts) column.push_back(no_text);
  for (std::uint32_t i = 0; i < entry.stream_count; ++i) {
    const std::string_view name(entry.stream_names[i].data, entry.stream_names[i].size);
    int column = stream(name);
    if (column < 0) {
      column = static_cast<int>(streams.size());
      streams.emplace_back(name);
      texts.emplace_back(row + 1, no_text);
    }
    texts[static_cast<std::size_t>(column)][row] = pool.add({entry.stream_values[i].data, entry.stream_values[i].size});
  }
  if (entry.unit != Unit::whole && bounds.empty()) bounds.resize(row);
  if (entry.unit != Unit::whole || !bounds.empty()) bounds.push_back({entry.unit, entry.start, entry.end});
}

void Rows::keep(const std::vector<bool>& kept) {
  keep_marked(labels, kept);
  keep_marked(origins, kept);
  for (auto& column : texts) keep_marked(column, kept);
  keep_marked(bounds, kept);
  for (auto& video : videos) {
    keep_marked(video.files, kept);
    keep_marked(video.first, kept);
    keep_marked(video.frames, kept);
    keep_marked(video.chosen, kept);
  }
}

}  // namespace sluice
