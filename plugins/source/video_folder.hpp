// A folder of videos: a folder for each class, or videos alone, in an order that does not depend on the file system.
#pragma once

#include <string>
#include <vector>

#include "listed_video.hpp"

namespace sluice {

struct VideoFolder {
  VideoList videos;
  std::vector<std::string> classes;  // names of the class folders, sorted by their bytes; empty: no labels
};

// Below a class folder videos may lie in folders of their own; one that holds pictures is a video of frames. Hidden files
// and files that are no videos by their name are left out. Throws sluice::Error when the folder cannot be read.
VideoFolder open_folder(const std::string& folder, const std::vector<std::string>& extensions);

// The folders of the two splits where a folder has them: train, and one of val, valid, validation, test. Empty: it has not.
std::string train_folder(const std::string& folder);
std::string val_folder(const std::string& folder);

}  // namespace sluice
