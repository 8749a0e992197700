// What source.video_list found in a list or a folder, before it is known which classes there are and how it is split.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace sluice {

struct ListedVideo {
  std::string key;     // the file as the list names it: what the split follows, so that moving the folder changes nothing
  std::vector<std::pair<std::string, std::string>> streams;  // stream to path or text; paths are absolute or as root is
  std::size_t paths = 0;                                     // so many of `streams`, the first ones, are paths
  std::string label;  // as the list has it; empty: none
  bool piece = false;
  double start = 0, end = 0;
  std::string group;
  std::string origin;   // e.g. "list.csv:17"
  std::string problem;  // why it cannot be used; empty: it can
  double progress = 0;  // how much of its list was read
};

// A list or a folder: gives its videos in a fixed order, as often as it is asked.
using VideoList = std::function<void(const std::function<void(const ListedVideo&)>&)>;

// Why a file cannot be a video, without opening it; empty when it may be one. A folder may be one of frames.
std::string problem_with(const std::string& path);
// The same for all names of one file, through links too; 0 where there is none.
std::uint64_t identity_of(const std::string& path);

}  // namespace sluice
