// What a source listed, stored compactly: a million entries take some fifty bytes each.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sluice/source.hpp>

namespace sluice {

// Texts by number. Paths share their folders; equal texts share their number.
class TextPool {
 public:
  [[nodiscard]] std::uint32_t add(std::string_view text);
  [[nodiscard]] std::string get(std::uint32_t number) const;
  [[nodiscard]] std::uint64_t length(std::uint32_t number) const;
  [[nodiscard]] std::uint32_t size() const { return static_cast<std::uint32_t>(texts_.size()); }
  void finish();  // no more adds: drops what only adding needs

 private:
  struct Piece {
    std::uint32_t folder;
    std::uint32_t length;
    std::uint64_t offset;  // of the part behind the last slash, in bytes_
  };
  [[nodiscard]] bool equal(const Piece& piece, std::string_view text) const;
  [[nodiscard]] std::uint32_t add_folder(std::string_view folder);
  void grow();

  std::string bytes_;
  std::vector<Piece> texts_;
  std::vector<std::string> folders_;
  std::vector<std::uint32_t> table_;         // open addressing: number + 1, 0 where free
  std::vector<std::uint32_t> folder_table_;  // the same over folders_
};

inline constexpr std::uint32_t no_text = std::numeric_limits<std::uint32_t>::max();

// A video stream of a split: which file each row names, and which of its frames.
struct VideoColumn {
  std::string stream;
  int decoder = -1;  // number of the stage that decodes it
  int sampler = -1;  // number of the stage that chooses its frames
  std::vector<std::uint32_t> files;   // per row
  std::vector<std::uint32_t> first;   // per row, empty when every row is a whole file
  std::vector<std::uint32_t> frames;  // likewise
  std::vector<std::uint32_t> chosen;  // frames the sampler chooses, where it had to see the times to tell; empty: ask it
};

// One split. Columns are vectors of equal length, a row a sample (before views).
struct Rows {
  std::vector<std::int32_t> labels;
  std::vector<std::uint32_t> origins;
  std::vector<std::string> streams;               // names of the text streams
  std::vector<std::vector<std::uint32_t>> texts;  // per stream, per row; no_text where a row lacks it
  struct Bounds {
    Unit unit = Unit::whole;
    double start = 0;
    double end = 0;
  };
  std::vector<Bounds> bounds;  // per row while the headers are read; empty when every row is whole, and afterwards
  std::vector<VideoColumn> videos;

  [[nodiscard]] std::size_t size() const { return labels.size(); }
  void add(TextPool& texts, const abi::Entry& entry);
  // Keeps the rows that are marked.
  void keep(const std::vector<bool>& kept);
  [[nodiscard]] int stream(std::string_view name) const;  // column of a text stream, -1: none
};

}  // namespace sluice
