// The checks before a plugin file is read, let alone loaded.
#include "framework/plugin/trust.hpp"

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sluice/error.hpp>

#include "framework/base/strings.hpp"

namespace sluice {
namespace {

namespace fs = std::filesystem;

// A user's private group: the primary group of the owner, with nobody else in it.
bool is_own_group(uid_t owner, gid_t group) {
  std::vector<char> buffer(16384);
  passwd user{};
  passwd* user_found = nullptr;
  if (::getpwuid_r(owner, &user, buffer.data(), buffer.size(), &user_found) != 0 || !user_found) return owner == group;
  if (user.pw_gid != group) return false;
  const std::string name = user.pw_name;
  ::group members{};
  ::group* group_found = nullptr;
  if (::getgrgid_r(group, &members, buffer.data(), buffer.size(), &group_found) != 0 || !group_found) return owner == group;
  if (name != members.gr_name) return false;  // "users" and the like are shared
  for (char** member = members.gr_mem; *member; ++member)
    if (name != *member) return false;
  return true;
}

std::string shell_word(const fs::path& path) {
  const std::string text = path.string();
  if (text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./+") == std::string::npos) return text;
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? "'\\''" : std::string(1, c);
  return out + "'";
}

}  // namespace

Distrust distrust(mode_t mode, uid_t owner, gid_t group, const fs::path& path) {
  if (S_ISDIR(mode)) return {"it is a folder", "name it in [plugins] path"};
  if (!S_ISREG(mode)) return {"it is no regular file", "a plugin is a shared library on disk"};
  if (mode & S_IWOTH) return {"everybody may write to it, so it may hold anybody's code", "chmod o-w " + shell_word(path)};
  if ((mode & S_IWGRP) && !is_own_group(owner, group)) return {"a group of several people may write to it", "chmod g-w " + shell_word(path)};
  return {};
}

TrustedFile::TrustedFile(const fs::path& path) {
  std::error_code error;
  path_ = fs::canonical(path, error);
  if (error) {
    const bool loop = error == std::errc::too_many_symbolic_link_levels;
    throw Error(Code::plugin, loop ? "its links lead in a circle" : fmt::format("it cannot be found: {}", error.message()));
  }
  // O_NONBLOCK: a FIFO must not make us wait; O_NOFOLLOW: the last part was a link's target a moment ago.
  fd_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
  if (fd_ < 0) throw Error(Code::plugin, fmt::format("it cannot be opened: {}", std::strerror(errno)), errno == EACCES ? "chmod u+r " + shell_word(path_) : "");
  struct stat status {};
  const bool known = ::fstat(fd_, &status) == 0;
  const Distrust doubt = known ? distrust(status.st_mode, status.st_uid, status.st_gid, path_) : Distrust{std::strerror(errno), ""};
  if (!doubt.why.empty()) {
    ::close(std::exchange(fd_, -1));
    throw Error(Code::plugin, doubt.why, doubt.cure);
  }
  device_ = status.st_dev;
  inode_ = status.st_ino;
  size_ = status.st_size;
  modified_ = status.st_mtim;
  changed_ = status.st_ctim;
}

TrustedFile::~TrustedFile() {
  if (fd_ >= 0) ::close(fd_);
}

TrustedFile::TrustedFile(TrustedFile&& other) noexcept { *this = std::move(other); }

TrustedFile& TrustedFile::operator=(TrustedFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  std::swap(device_, other.device_);
  std::swap(inode_, other.inode_);
  std::swap(size_, other.size_);
  std::swap(modified_, other.modified_);
  std::swap(changed_, other.changed_);
  return *this;
}

bool TrustedFile::same_as(const TrustedFile& other) const {
  const auto same = [](const timespec& a, const timespec& b) { return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec; };
  return device_ == other.device_ && inode_ == other.inode_ && size_ == other.size_ && same(modified_, other.modified_) && same(changed_, other.changed_);
}

}  // namespace sluice
