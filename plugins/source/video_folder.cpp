// Walks the tree once, sorted by bytes; links are followed, a link to a folder above is not.
#include "video_folder.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <utility>

#include <sluice/error.hpp>

namespace sluice {
namespace {

namespace fs = std::filesystem;
constexpr std::array picture_extensions = {"jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff"};

std::string lower_extension(const std::string& name) {
  const auto dot = name.rfind('.');
  std::string out = dot == std::string::npos || dot == 0 ? "" : name.substr(dot + 1);
  for (auto& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return out;
}

// Names in a folder, without hidden ones, sorted by their bytes.
std::vector<std::string> names_in(const std::string& folder) {
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    auto name = it->path().filename().string();
    if (!name.starts_with('.')) names.push_back(std::move(name));
  }
  if (error) throw Error(Code::data, "cannot read the folder " + folder + ": " + error.message());
  std::sort(names.begin(), names.end());
  return names;
}

// A link that leads nowhere, or round in a circle, is none.
bool is_folder(const std::string& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

struct Found {
  std::string key;  // relative to the folder
  std::string label;
  std::string problem;
};

class Walk {
 public:
  Walk(std::string root, const std::vector<std::string>& extensions) : root_(std::move(root)), extensions_(extensions) {
    struct stat status{};
    if (::stat(root_.c_str(), &status) == 0) root_is_ = {status.st_dev, status.st_ino};
  }

  // Videos below root/relative. Pictures make a video of the folder they are in, unless it is a class folder itself.
  void visit(const std::string& relative, const std::string& label, bool may_be_frames) {
    struct stat status{};
    const auto folder = root_ + relative;
    if (::stat(folder.c_str(), &status) != 0) return;
    const std::pair<dev_t, ino_t> self{status.st_dev, status.st_ino};
    if (std::find(above_.begin(), above_.end(), self) != above_.end() || (!relative.empty() && self == root_is_)) return;
    above_.push_back(self);
    bool pictures = false, videos = false;
    for (const auto& name : names_in(folder)) {
      const auto extension = lower_extension(name);
      const auto path = relative + "/" + name;
      if (is_folder(root_ + path)) {
        visit(path, label, true);
      } else if (std::find(extensions_.begin(), extensions_.end(), extension) != extensions_.end()) {
        found.push_back({path.substr(1), label, {}});
        videos = true;
      } else {
        pictures = pictures || std::find(picture_extensions.begin(), picture_extensions.end(), extension) != picture_extensions.end();
      }
    }
    if (pictures && !videos && may_be_frames) found.push_back({relative.substr(1), label, {}});
    above_.pop_back();
  }

  std::vector<Found> found;

 private:
  std::string root_;
  const std::vector<std::string>& extensions_;
  std::pair<dev_t, ino_t> root_is_{};
  std::vector<std::pair<dev_t, ino_t>> above_;
};

std::string first_folder(const std::string& folder, std::initializer_list<const char*> names) {
  for (const auto* name : names)
    if (is_folder(folder + "/" + name)) return folder + "/" + name;
  return {};
}

}  // namespace

std::string train_folder(const std::string& folder) { return first_folder(folder, {"train"}); }
std::string val_folder(const std::string& folder) { return first_folder(folder, {"val", "valid", "validation", "test"}); }

VideoFolder open_folder(const std::string& given, const std::vector<std::string>& extensions) {
  auto root = given;
  while (root.size() > 1 && root.ends_with('/')) root.pop_back();
  Walk walk(root, extensions);
  VideoFolder out;
  for (const auto& name : names_in(root))
    if (is_folder(root + "/" + name)) out.classes.push_back(name);
  if (out.classes.empty()) {
    walk.visit("", "", false);
  } else {
    for (const auto& name : names_in(root))
      if (std::find(extensions.begin(), extensions.end(), lower_extension(name)) != extensions.end() && !is_folder(root + "/" + name))
        walk.found.push_back({name, "", "it lies beside the folders of the classes, so it has no class"});
    for (const auto& name : out.classes) {
      const auto before = walk.found.size();
      walk.visit("/" + name, name, false);
      if (walk.found.size() == before) walk.found.push_back({name, name, "no video in the folder of this class"});
    }
  }
  const auto found = std::make_shared<const std::vector<Found>>(std::move(walk.found));
  out.videos = [root, found](const std::function<void(const ListedVideo&)>& give) {
    ListedVideo video;
    for (std::size_t i = 0; i < found->size(); ++i) {
      const auto& one = (*found)[i];
      video.key = one.key;
      video.label = one.label;
      video.problem = one.problem;
      video.streams = {{"clip", root + "/" + one.key}};
      video.paths = 1;
      video.origin = root + "/" + one.key;
      video.progress = static_cast<double>(i) / static_cast<double>(found->size());
      give(video);
    }
  };
  return out;
}

}  // namespace sluice
