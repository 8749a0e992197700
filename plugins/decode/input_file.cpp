// Implements input_file.hpp with POSIX calls.
#include "input_file.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sluice/error.hpp>

namespace sluice::decode {

namespace {

[[noreturn]] void refuse(const std::string& name, const std::string& why, const std::string& hint = {}) {
  throw Error(Code::data, name + ": " + why, hint);
}

void require_regular(const std::string& name, const struct stat& status) {
  if (S_ISREG(status.st_mode)) return;
  const char* what = S_ISDIR(status.st_mode)    ? "it is a folder, not a video file"
                     : S_ISFIFO(status.st_mode) ? "it is a pipe (FIFO); frames are read out of order, which a pipe cannot do"
                     : S_ISSOCK(status.st_mode) ? "it is a socket, not a video file"
                                                : "it is a device, not a video file";
  refuse(name, what, S_ISDIR(status.st_mode) ? "decode.frames reads folders of images" : "name a regular file");
}

Identity identity_of(const struct stat& status) {
  return {static_cast<std::uint64_t>(status.st_size),
          static_cast<std::int64_t>(status.st_mtim.tv_sec) * 1'000'000'000 + status.st_mtim.tv_nsec};
}

}  // namespace

std::string printable(const std::string& path) {
  std::string out;
  for (std::size_t i = 0; i < path.size();) {
    const auto lead = static_cast<unsigned char>(path[i]);
    const std::size_t length = lead < 0x80 ? 1 : lead >= 0xC2 && lead < 0xE0 ? 2 : lead >= 0xE0 && lead < 0xF0 ? 3 : lead >= 0xF0 && lead < 0xF5 ? 4 : 0;
    bool valid = length > 0 && i + length <= path.size() && lead >= 0x20 && lead != 0x7F;
    for (std::size_t k = 1; valid && k < length; ++k) valid = (static_cast<unsigned char>(path[i + k]) & 0xC0) == 0x80;
    if (valid) {
      out.append(path, i, length);
      i += length;
    } else {
      static constexpr char digits[] = "0123456789abcdef";
      out += {'\\', 'x', digits[lead >> 4], digits[lead & 15]};
      ++i;
    }
  }
  return out;
}

std::string absolute(const std::string& path) {
  std::error_code ignored;
  const auto full = std::filesystem::absolute(path, ignored);
  return ignored ? path : full.string();
}

InputFile::InputFile(std::string path) : path_(std::move(path)), name_(printable(path_)) {
  struct stat status {};
  // Looked at before it is opened: opening a device can already do something.
  if (path_.empty()) refuse("(no path)", "the sample has no file", "look at the line of the list that it comes from");
  if (::stat(path_.c_str(), &status) != 0) {
    if (errno == ENOENT) refuse(name_, "there is no such file", "look at its name in the list, and at the folder that paths are relative to");
    refuse(name_, std::string("it cannot be looked at: ") + std::strerror(errno), "look at the rights of the folders above it");
  }
  require_regular(name_, status);
  descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);  // non-blocking: it may have become a pipe
  if (descriptor_ < 0)
    refuse(name_, std::string("it cannot be read: ") + std::strerror(errno), errno == EACCES ? "chmod u+r, or run as its owner" : "");
  if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    refuse(name_, "it is no regular file");
  }
  identity_ = identity_of(status);
  if (identity_.size == 0) {
    ::close(descriptor_);
    refuse(name_, "the file is empty (0 bytes)", "copy it again");
  }
}

InputFile::~InputFile() { ::close(descriptor_); }

std::size_t InputFile::read(void* to, std::size_t bytes, std::uint64_t offset) const {
  std::size_t done = 0;
  while (done < bytes) {
    const auto got = ::pread(descriptor_, static_cast<char*>(to) + done, bytes - done, static_cast<off_t>(offset + done));
    if (got > 0) done += static_cast<std::size_t>(got);
    else if (got == 0) break;
    else if (errno != EINTR)
      throw Error(Code::io, name_ + ": reading " + std::to_string(bytes) + " bytes at " + std::to_string(offset) + " failed: " + std::strerror(errno),
                  "look at the disk or the mount; the file itself may be whole");
  }
  return done;
}

void InputFile::check_unchanged() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) == 0 && identity_of(status) == identity_) return;
  throw Error(Code::data, name_ + ": the file changed while it was read (" + std::to_string(identity_.size) + " bytes when it was opened, now " +
                              std::to_string(status.st_size) + ")",
              "leave the data alone while a run reads it");
}

}  // namespace sluice::decode
