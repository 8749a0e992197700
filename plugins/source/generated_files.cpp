// See the header. Whoever writes holds the lock; whoever only reads needs neither lock nor a writable disk.
#include "generated_files.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <thread>

#include <sluice/error.hpp>
#include <sluice/rng.hpp>

#include "h264_file.hpp"

namespace sluice::generated {
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

void make_folders(const std::filesystem::path& folder, std::span<const std::string_view> classes) {
  for (const auto* split : {"train", "val"})
    for (const auto name : classes) {
      std::error_code error;
      std::filesystem::create_directories(folder / split / name, error);
      if (error) throw Error(Code::io, "cannot make the folder " + (folder / split / name).string() + ": " + error.message(), "set root to a folder that can be written");
    }
}

// The other process may have made them while this one waited for the lock.
void make(const std::string& what, const std::filesystem::path& folder, const std::vector<Clip>& clips, const Listing& listing,
          const std::function<void(const std::filesystem::path&, const Clip&)>& write) {
  const FolderLock lock(folder, [&] { listing.progress(what + ": waiting for another process that makes these clips", 0); });
  const auto missing = missing_of(folder, clips);
  std::atomic<std::size_t> next = 0;
  std::atomic<bool> stop = false;
  std::exception_ptr failed;
  std::mutex failed_mutex;
  const auto work = [&](bool reports) {
    try {
      for (std::size_t n; !stop && (n = next++) < missing.size();) {
        if (reports) listing.progress(what + ": rendering " + std::to_string(missing.size()) + " clips", static_cast<double>(n) / static_cast<double>(missing.size()));
        write(folder / clips[missing[n]].name, clips[missing[n]]);
      }
    } catch (...) {
      stop = true;
      const std::lock_guard guard(failed_mutex);
      if (!failed) failed = std::current_exception();
    }
  };
  {
    const auto threads = std::clamp<std::size_t>(listing.context().workers(), 1, missing.size() / 8 + 1);
    std::vector<std::jthread> helpers;
    for (std::size_t i = 1; i < threads; ++i) helpers.emplace_back(work, false);
    work(true);
  }
  if (failed) std::rethrow_exception(failed);
  record(folder, clips);
}

}  // namespace

std::filesystem::path folder_of(const std::filesystem::path& root, std::int64_t size, std::int64_t frames, std::span<const std::int64_t> settings) {
  constexpr std::uint64_t version = 1;  // of the scenes and the encoder's settings
  std::uint64_t hash = version;
  for (const auto value : settings) hash = mix_bits(hash ^ static_cast<std::uint64_t>(value));
  char name[64];
  std::snprintf(name, sizeof name, "%lldx%lld-%08llx", static_cast<long long>(size), static_cast<long long>(frames), static_cast<unsigned long long>(hash >> 32));
  return root / name;
}

void list_clips(Listing& listing, const std::string& what, const std::filesystem::path& folder, const std::vector<Clip>& clips, std::span<const std::string_view> classes,
                const std::function<void(const std::filesystem::path&, const Clip&)>& write) {
  if (!missing_of(folder, clips).empty()) {
    make_folders(folder, classes);
    make(what, folder, clips, listing, write);
  }
  listing.classes({classes.begin(), classes.end()});
  for (const auto& clip : clips) {
    const auto file = (folder / clip.name).string();
    listing.add({.split = clip.validation ? Split::val : Split::train, .label = static_cast<std::int64_t>(clip.index % classes.size()), .streams = {{"clip", file}}, .origin = file});
  }
}

std::vector<Clip> clips_of(std::int64_t train, std::int64_t val, std::span<const std::string_view> classes) {
  std::vector<Clip> clips;
  for (const bool validation : {false, true})
    for (std::int64_t i = 0; i < (validation ? val : train); ++i) {
      char number[32];
      std::snprintf(number, sizeof number, "%05lld.mp4", static_cast<long long>(i));
      const auto index = static_cast<std::uint64_t>(i);
      clips.push_back({validation, index, std::string(validation ? "val/" : "train/") + std::string(classes[index % classes.size()]) + "/" + number});
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

}  // namespace sluice::generated
