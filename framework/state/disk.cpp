// The machine's disk: one system call a function.
#include "framework/state/disk.hpp"

#include <cerrno>
#include <cstdio>
#include <memory>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

namespace sluice {
namespace {

class SystemDisk final : public Disk {
 public:
  int open(const std::string& path, int flags, unsigned mode) override { return ::open(path.c_str(), flags | O_CLOEXEC, mode); }
  int close(int fd) override { return ::close(fd); }
  ssize_t pread(int fd, void* data, std::size_t bytes, std::uint64_t offset) override {
    return ::pread(fd, data, bytes, static_cast<off_t>(offset));
  }
  ssize_t pwrite(int fd, const void* data, std::size_t bytes, std::uint64_t offset) override {
    return ::pwrite(fd, data, bytes, static_cast<off_t>(offset));
  }
  int allocate(int fd, std::uint64_t bytes) override { return ::fallocate(fd, 0, 0, static_cast<off_t>(bytes)); }
  int truncate(int fd, std::uint64_t bytes) override { return ::ftruncate(fd, static_cast<off_t>(bytes)); }
  int sync(int fd) override { return ::fsync(fd); }
  std::int64_t size(int fd) override {
    struct stat status {};
    if (::fstat(fd, &status) != 0) return -1;
    if (S_ISREG(status.st_mode)) return status.st_size;
    errno = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
    return -1;
  }

  int make_folder(const std::string& path) override { return ::mkdir(path.c_str(), 0777); }
  int remove_folder(const std::string& path) override { return ::rmdir(path.c_str()); }
  int rename(const std::string& from, const std::string& to) override { return std::rename(from.c_str(), to.c_str()); }
  int exchange(const std::string& a, const std::string& b) override {
    return ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE);
  }
  int unlink(const std::string& path) override { return ::unlink(path.c_str()); }
  int link(const std::string& target, const std::string& path) override { return ::symlink(target.c_str(), path.c_str()); }
  int read_link(const std::string& path, std::string& target) override {
    target.resize(4096);
    const auto length = ::readlink(path.c_str(), target.data(), target.size());
    target.resize(length < 0 ? 0 : static_cast<std::size_t>(length));
    return length < 0 ? -1 : 0;
  }
  int list(const std::string& path, std::vector<std::string>& names) override {
    struct Close {
      void operator()(DIR* folder) const { ::closedir(folder); }
    };
    const std::unique_ptr<DIR, Close> folder(::opendir(path.c_str()));
    if (!folder) return -1;
    for (;;) {
      errno = 0;
      const dirent* entry = ::readdir(folder.get());
      if (!entry) return errno == 0 ? 0 : -1;
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
    }
  }
  std::int64_t free_bytes(const std::string& path) override {
    struct statvfs status {};
    if (::statvfs(path.c_str(), &status) != 0) return -1;
    return static_cast<std::int64_t>(status.f_bavail) * static_cast<std::int64_t>(status.f_frsize);
  }
};

}  // namespace

Disk& system_disk() {
  static Disk& disk = *std::make_unique<SystemDisk>().release();  // also for what is destroyed after main()
  return disk;
}

}  // namespace sluice
