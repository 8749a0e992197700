// The files of a generated set: which are there, which are missing, and who may make them.
//
// A set lives in a folder of its own, named after what its bytes follow from. `files.txt` lists name and size of each
// file once all were made; a file that is not in it counts only if it is a whole mp4. So a run that was killed is taken up
// where it stopped, and a file that a power cut left empty is made again.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <sluice/source.hpp>

namespace sluice::generated {

struct Clip {
  bool validation = false;
  std::uint64_t index = 0;
  std::string name;  // relative to the folder, e.g. train/left/00008.mp4
};

// What there is to make, in the order of the listing; the classes take turns.
std::vector<Clip> clips_of(std::int64_t train, std::int64_t val, std::span<const std::string_view> classes);

// Folder in `root` named after all that the bytes of a clip follow from; how many clips there are is not among it.
std::filesystem::path folder_of(const std::filesystem::path& root, std::int64_t size, std::int64_t frames, std::span<const std::int64_t> settings);

// Lists the clips, having made those that are missing. `what` names the set in the progress; `write(path, clip)` makes a file and is
// called from several threads at once.
void list_clips(Listing& listing, const std::string& what, const std::filesystem::path& folder, const std::vector<Clip>& clips, std::span<const std::string_view> classes,
                const std::function<void(const std::filesystem::path&, const Clip&)>& write);

// Held while a set is written. Waits for another process that holds it, calling `waiting` every fifth of a second; the
// system lets it go when its process ends, however it ends.
class FolderLock {
 public:
  FolderLock(const std::filesystem::path& folder, const std::function<void()>& waiting);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int file_ = -1;
};

// Numbers of the clips whose files are missing or not whole.
std::vector<std::size_t> missing_of(const std::filesystem::path& folder, const std::vector<Clip>& clips);

// Adds these clips' files to the record, beside what it holds already.
void record(const std::filesystem::path& folder, const std::vector<Clip>& clips);

}  // namespace sluice::generated
