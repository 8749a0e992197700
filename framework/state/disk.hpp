// Disk: the system calls that reach a disk, behind one interface so that a test can make each of them fail or cut the power.
// Nothing in sluice that must survive a crash writes to a disk by another way.
#pragma once

#include <cerrno>
#include <cstdint>
#include <string>
#include <vector>

#include <sys/types.h>

namespace sluice {

// Every call answers as the system call does: -1 and errno on failure, short counts and EINTR included. Use files.hpp instead.
class Disk {
 public:
  virtual ~Disk() = default;

  virtual int open(const std::string& path, int flags, unsigned mode) = 0;  // O_CLOEXEC is added
  virtual int close(int fd) = 0;
  virtual ssize_t pread(int fd, void* data, std::size_t bytes, std::uint64_t offset) = 0;
  virtual ssize_t pwrite(int fd, const void* data, std::size_t bytes, std::uint64_t offset) = 0;
  virtual int allocate(int fd, std::uint64_t bytes) = 0;  // fallocate(2) from 0
  virtual int truncate(int fd, std::uint64_t bytes) = 0;
  virtual int sync(int fd) = 0;  // a file's bytes and size, or a folder's entries
  virtual std::int64_t size(int fd) = 0;  // -1 and EISDIR for what is no regular file

  virtual int make_folder(const std::string& path) = 0;
  virtual int remove_folder(const std::string& path) = 0;
  virtual int rename(const std::string& from, const std::string& to) = 0;
  virtual int exchange(const std::string& a, const std::string& b) = 0;  // renameat2(2), RENAME_EXCHANGE
  virtual int unlink(const std::string& path) = 0;
  virtual int link(const std::string& target, const std::string& path) = 0;  // symlink(2)
  virtual int read_link(const std::string& path, std::string& target) = 0;
  virtual int list(const std::string& path, std::vector<std::string>& names) = 0;  // in no order, without "." and ".."
  virtual std::int64_t free_bytes(const std::string& path) = 0;  // that this process may use
};

// The machine's own. Lives for ever.
[[nodiscard]] Disk& system_disk();

// The call once more as long as a signal interrupts it.
template <class Call> auto uninterrupted(Call call) {
  for (;;) {
    const auto result = call();
    if (result != -1 || errno != EINTR) return result;
  }
}

}  // namespace sluice
