// A text or csv file that lists videos: path, label and perhaps start and end of a piece; other columns by name.
#pragma once

#include <string>
#include <vector>

#include "listed_video.hpp"

namespace sluice {

struct ListFormat {
  std::string path_column = "path", label_column = "label", start_column = "start", end_column = "end";
  std::string group_column;                // empty: none
  std::vector<std::string> path_columns;   // streams of paths by column; empty: path_column becomes `clip`
  std::vector<std::string> text_columns;   // streams of text by column
  char separator = 0;                      // 0: guess
  std::string root;                        // relative paths start here; empty: the list's folder
};

// Reads the head of the list and throws sluice::Error where a column is missing that was asked for.
VideoList open_list(const std::string& file, const ListFormat& format);

}  // namespace sluice
