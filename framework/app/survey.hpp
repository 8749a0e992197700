// What lies in a folder or a list of videos: classes, lengths, rates, sizes, and what cannot be used.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "framework/flow/dataset.hpp"
#include "framework/plugin/registry.hpp"

namespace sluice::app {

struct Spread {
  double min = 0, median = 0, max = 0;
};

struct Survey {
  struct Class {
    std::string name;
    std::int64_t train = 0, val = 0;
  };
  std::vector<Class> classes;
  std::int64_t train = 0, val = 0;  // samples: videos, or pieces of them
  bool pieces = false;              // some entry is a part of its file
  bool frame_folders = false;       // the videos are folders of pictures
  Spread frames, seconds, rate, height, width, short_side;  // of what can be used; rate and seconds 0 where no file has one
  std::vector<Failed> failed;
  [[nodiscard]] bool one_size() const { return height.min == height.max && width.min == width.max; }
};

// `source` is for source.video_list: its settings, paths absolute. Reads every header, decodes nothing. Throws Error(Code::data)
// when nothing can be used or nothing has a label; the message names the first causes.
[[nodiscard]] Survey survey(Registry& registry, const PluginConfig& source, std::int64_t workers);

}  // namespace sluice::app
