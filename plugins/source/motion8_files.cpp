// See the header. Whoever writes holds the lock; whoever only reads needs neither lock nor a writable disk.
#include "motion8_files.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

#include <sluice/error.hpp>

#include "h264_file.hpp"
#include "motion8_scene.hpp"

namespace sluice::motion8 {
namespace {

constexpr const char* record_name = "files.txt";

[[noreturn]] void disk_error(const std::string& doing, const std::filesystem::path& path, int error) {
  throw Error(Code::io, "cannot " + doing + " " + path.string() + ": " + std::strerror(error), "set root to a folder that can be written, on a disk with room");
}

std::map<std::string, std::uintmax_t> read_record(const std::filesystem::path& folder) {
  std::map<std::string, std::uintmax_t> sizes;
  std::ifstream file(folder / record_name);
  std::uintmax_t size = 0;
  for (std::string name; file >> size >> name;) sizes[name] = size;
  return sizes;
}

}  // namespace

std::vector<Clip> clips_of(std::int64_t train, std::int64_t val) {
  std::vector<Clip> clips;
  for (const bool validation : {false, true})
    for (std::int64_t i = 0; i < (validation ? val : train); ++i) {
      char number[32];
      std::snprintf(number, sizeof number, "%05lld.mp4", static_cast<long long>(i));
      const auto index = static_cast<std::uint64_t>(i);
      clips.push_back({validation, index, std::string(validation ? "val/" : "train/") + std::string(directions[index % directions.size()]) + "/" + number});
    }
  return clips;
}

FolderLock::FolderLock(const std::filesystem::path& folder, const std::function<void()>& waiting) {
  const auto path = folder / "lock";
  file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (file_ < 0) disk_error("make the lock", path, errno);
  while (::flock(file_, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    if (error != EWOULDBLOCK && error != EINTR) {
      ::close(file_);
      disk_error("take the lock", path, error);
    }
    waiting();
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
}

FolderLock::~FolderLock() { ::close(file_); }

std::vector<std::size_t> missing_of(const std::filesystem::path& folder, const std::vector<Clip>& clips) {
  const auto sizes = read_record(folder);
  std::vector<std::size_t> missing;
  for (std::size_t i = 0; i < clips.size(); ++i) {
    const auto path = folder / clips[i].name;
    const auto recorded = sizes.find(clips[i].name);
    std::error_code none;
    const bool there = recorded != sizes.end() ? std::filesystem::file_size(path, none) == recorded->second && !none : whole_mp4(path);
    if (!there) missing.push_back(i);
  }
  return missing;
}

void record(const std::filesystem::path& folder, const std::vector<Clip>& clips) {
  auto sizes = read_record(folder);
  for (const auto& clip : clips) {
    std::error_code error;
    sizes[clip.name] = std::filesystem::file_size(folder / clip.name, error);
    if (error) disk_error("read", folder / clip.name, error.value());
  }
  std::ostringstream text;
  for (const auto& [name, size] : sizes) text << size << ' ' << name << '\n';
  const auto beside = folder / (std::string(record_name) + ".part");
  {
    std::ofstream file(beside, std::ios::trunc);
    file << text.str();
    file.flush();
    if (!file) disk_error("write", beside, errno);
  }
  std::error_code error;
  std::filesystem::rename(beside, folder / record_name, error);
  if (error) disk_error("write", folder / record_name, error.value());
}

}  // namespace sluice::motion8
