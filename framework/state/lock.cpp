// The run folder's lock, by flock(2).
#include "framework/state/lock.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sluice/error.hpp>

#include "framework/base/clock.hpp"
#include "framework/base/strings.hpp"
#include "framework/state/files.hpp"

namespace sluice {
namespace {

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown host";
}

}  // namespace

RunLock::RunLock(const std::filesystem::path& run_dir) : run_dir_(run_dir) {
  make_folders(system_disk(), run_dir);
  const auto path = run_dir / "lock";
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (fd_ < 0) throw Error(Code::io, fmt::format("cannot open the run's lock: {}", std::strerror(errno)), "check the permissions of the folder", path.string());
  int result = 0;
  do result = ::flock(fd_, LOCK_EX | LOCK_NB);
  while (result != 0 && errno == EINTR);
  if (result != 0) {
    const int error = errno;
    std::array<char, 512> text{};
    const auto count = ::pread(fd_, text.data(), text.size() - 1, 0);
    ::close(std::exchange(fd_, -1));
    if (error != EWOULDBLOCK)
      throw Error(Code::io, fmt::format("cannot lock the run's folder: {}", std::strerror(error)), "choose a run.dir on a file system that has locks", path.string());
    const std::string holder(trim(std::string_view(text.data(), count > 0 ? static_cast<std::size_t>(count) : 0)));
    throw Error(Code::configuration, fmt::format("another run is working in this folder: {}", holder.empty() ? "it has just begun" : holder),
                "wait for it, end it, or give this run a run.dir or run.name of its own", run_dir.string());
  }
  const std::string text = fmt::format("process {} on {}, since {}\n", ::getpid(), host_name(), utc_now());
  // Only for the message above: the lock holds without it, on a full disk as well.
  if (::ftruncate(fd_, 0) == 0) static_cast<void>(::pwrite(fd_, text.data(), text.size(), 0) < 0);
}

void RunLock::check() const {
  struct stat ours{}, there{};
  if (::fstat(fd_, &ours) != 0 || ::stat((run_dir_ / "lock").c_str(), &there) != 0) return;
  if (ours.st_dev == there.st_dev && ours.st_ino == there.st_ino) return;
  throw Error(Code::io, "this is no longer the folder in which the run began: it was renamed, and another run took its name, or its lock was replaced. Nothing more is written here",
              "what was saved so far lies where the folder was moved to; go on from there with run.dir and --resume", run_dir_.string());
}

RunLock::RunLock(RunLock&& other) noexcept : run_dir_(std::move(other.run_dir_)), fd_(std::exchange(other.fd_, -1)) {}

RunLock::~RunLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace sluice
