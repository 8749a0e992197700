// Which files may be loaded as plugins: regular ones that only their owner and root can have written.
#pragma once

#include <filesystem>
#include <string>

#include <sys/types.h>

namespace sluice {

// An open plugin file that has passed the checks. What is checked, read and loaded is this descriptor, so a file that is put in
// its place later changes nothing.
class TrustedFile {
 public:
  // Follows links; checks what they lead to. Throws Error(Code::plugin) with the reason and the command that cures it.
  explicit TrustedFile(const std::filesystem::path& path);
  ~TrustedFile();
  TrustedFile(TrustedFile&& other) noexcept;
  TrustedFile& operator=(TrustedFile&& other) noexcept;
  TrustedFile(const TrustedFile&) = delete;
  TrustedFile& operator=(const TrustedFile&) = delete;

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }  // without links
  // Whether file and content are the same as when the other was opened: device, inode, size, times of change.
  [[nodiscard]] bool same_as(const TrustedFile& other) const;

 private:
  int fd_ = -1;
  std::filesystem::path path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  off_t size_ = 0;
  timespec modified_{}, changed_{};
};

// Why a file of this mode may not be loaded, and how to change that; empty when it may.
struct Distrust {
  std::string why, cure;
};
[[nodiscard]] Distrust distrust(mode_t mode, uid_t owner, gid_t group, const std::filesystem::path& path);

}  // namespace sluice
