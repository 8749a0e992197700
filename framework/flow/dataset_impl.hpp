// The inside of a Dataset, for the other files of this room.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/flow/dataset.hpp"
#include "framework/flow/entries.hpp"
#include "framework/flow/videos.hpp"
#include "framework/flow/wiring.hpp"

namespace sluice {

// A video file as its header describes it.
struct VideoFile {
  std::uint32_t path = 0;  // in the text pool
  std::uint32_t frames = 0;
  std::int32_t width = 0;
  std::int32_t height = 0;
  double rate = 0;
  std::uint64_t fingerprint = 0;  // FileState: a file that changed since is not what its header said
  bool variable_rate = false;
};

struct Dataset::Impl {
  std::vector<std::string> classes;
  bool labelled = false;
  TextPool texts;
  std::vector<VideoFile> files;
  Rows rows[2];                 // by Split
  std::int64_t views[2] = {1, 1};
  std::vector<Failed> failed;
  Wiring wiring;

  [[nodiscard]] const Rows& of(Split split) const { return rows[static_cast<std::size_t>(split)]; }
  [[nodiscard]] std::int64_t views_of(Split split) const { return views[static_cast<std::size_t>(split)]; }
  [[nodiscard]] std::int64_t samples(Split split) const { return static_cast<std::int64_t>(of(split).size()) * views_of(split); }
  [[nodiscard]] std::size_t row(Split split, std::int64_t sample) const { return static_cast<std::size_t>(sample / views_of(split)); }

  // Where the row was declared, or the first text it has.
  [[nodiscard]] std::string where(const Rows& rows, std::size_t row) const;

  // The frames of a row in a video column.
  [[nodiscard]] FrameRange range(const VideoColumn& column, std::size_t row) const;
  // As the sampler sees it. `times`: of the whole file, or empty; `piece` keeps what the result points to.
  [[nodiscard]] abi::Video video(const VideoColumn& column, std::size_t row, Split split, std::int64_t view, const std::vector<double>* times,
                                 std::vector<double>& piece) const;
  [[nodiscard]] bool needs_times(const VideoColumn& column, const VideoFile& file, const Stages& stages) const;
};

}  // namespace sluice
