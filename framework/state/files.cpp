// Whole files over a Disk. EINTR is tried again, a short write goes on, and a failed fsync is never tried again: the kernel has
// dropped the pages by then, and a second fsync would answer that all is well.
#include "framework/state/files.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/base/strings.hpp"

namespace sluice {
namespace {

namespace fs = std::filesystem;

fs::path parent_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

[[noreturn]] void fail(Disk& disk, const fs::path& path, const std::string& doing, int error) {
  std::string hint;
  if (error == ENOSPC || error == EDQUOT) {
    const auto available = disk.free_bytes(parent_of(path).string());
    hint = fmt::format("{} there; free some space or choose another run.dir. Earlier checkpoints are as they were",
                       available < 0 ? std::string("the disk is full") : with_commas(static_cast<std::uint64_t>(available)) + " bytes are free");
  } else if (error == EACCES || error == EPERM || error == EROFS) {
    hint = "check the owner and the permissions of the folder";
  } else if (error == EIO) {
    hint = "the disk reports a fault; see the kernel's log (dmesg)";
  }
  throw Error(Code::io, fmt::format("cannot {}: {}", doing, std::strerror(error)), hint, path.string());
}

std::string bytes_at(std::uint64_t bytes, std::uint64_t offset) {
  return fmt::format("{} bytes at offset {}", with_commas(bytes), with_commas(offset));
}

}  // namespace

OutputFile::OutputFile(Disk& disk, fs::path path) : disk_(&disk), path_(std::move(path)) {
  fd_ = uninterrupted([&] { return disk_->open(path_.string(), O_WRONLY | O_CREAT | O_TRUNC, 0666); });
  if (fd_ < 0) fail(*disk_, path_, "create the file", errno);
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : disk_(other.disk_), path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), written_(other.written_) {}

OutputFile::~OutputFile() {
  if (fd_ >= 0) disk_->close(fd_);
}

void OutputFile::reserve(std::uint64_t bytes) {
  if (bytes == 0) return;
  if (uninterrupted([&] { return disk_->allocate(fd_, bytes); }) == 0) return;
  const int error = errno;
  if (error == EOPNOTSUPP || error == ENOSYS || error == EINVAL) return;
  fail(*disk_, path_, fmt::format("reserve {} bytes", with_commas(bytes)), error);
}

void OutputFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto count = uninterrupted([&] { return disk_->pwrite(fd_, bytes.data(), bytes.size(), written_); });
    if (count <= 0) fail(*disk_, path_, "write " + bytes_at(bytes.size(), written_), count == 0 ? ENOSPC : errno);
    written_ += static_cast<std::uint64_t>(count);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

void OutputFile::write(std::string_view text) { write(std::as_bytes(std::span(text))); }

void OutputFile::sync() {
  if (uninterrupted([&] { return disk_->sync(fd_); }) != 0) fail(*disk_, path_, fmt::format("make {} bytes durable", with_commas(written_)), errno);
}

void OutputFile::close() {
  const int fd = std::exchange(fd_, -1);
  // After EINTR the descriptor is closed all the same on Linux, and its number may be somebody else's by now.
  if (disk_->close(fd) != 0 && errno != EINTR) fail(*disk_, path_, fmt::format("close the file after {} bytes", with_commas(written_)), errno);
}

InputFile::InputFile(Disk& disk, fs::path path) : disk_(&disk), path_(std::move(path)) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer; a regular file takes no notice of it.
  fd_ = uninterrupted([&] { return disk_->open(path_.string(), O_RDONLY | O_NONBLOCK | O_NOCTTY, 0); });
  if (fd_ < 0) fail(*disk_, path_, "open the file", errno);
  const auto size = uninterrupted([&] { return disk_->size(fd_); });
  if (size < 0) {
    const int error = errno;
    disk_->close(std::exchange(fd_, -1));
    if (error == EINVAL) throw Error(Code::io, "this is no regular file", "name a file", path_.string());
    fail(*disk_, path_, "open the file", error);
  }
  size_ = static_cast<std::uint64_t>(size);
}

InputFile::InputFile(InputFile&& other) noexcept
    : disk_(other.disk_), path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}

InputFile::~InputFile() {
  if (fd_ >= 0) disk_->close(fd_);
}

void InputFile::read(std::uint64_t offset, std::span<std::byte> into) const {
  while (!into.empty()) {
    const auto count = uninterrupted([&] { return disk_->pread(fd_, into.data(), into.size(), offset); });
    if (count < 0) fail(*disk_, path_, "read " + bytes_at(into.size(), offset), errno);
    if (count == 0) throw Error(Code::io, fmt::format("the file ends at {}, {} are missing", with_commas(offset), counted(into.size(), "byte")), {}, path_.string());
    offset += static_cast<std::uint64_t>(count);
    into = into.subspan(static_cast<std::size_t>(count));
  }
}

void write_file(Disk& disk, const fs::path& path, std::string_view text) {
  fs::path beside = path;
  beside += ".tmp";
  try {
    OutputFile file(disk, beside);
    file.write(text);
    file.sync();
    file.close();
    rename_path(disk, beside, path);
  } catch (const Error&) {
    disk.unlink(beside.string());
    throw;
  }
  sync_folder(disk, parent_of(path));
}

std::string read_file(Disk& disk, const fs::path& path, std::uint64_t limit) {
  const InputFile file(disk, path);
  if (file.size() > limit) throw Error(Code::data, fmt::format("the file has {} bytes, at most {} are read", with_commas(file.size()), with_commas(limit)), {}, path.string());
  std::string text(file.size(), '\0');
  file.read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

void rename_path(Disk& disk, const fs::path& from, const fs::path& to) {
  if (uninterrupted([&] { return disk.rename(from.string(), to.string()); }) != 0) fail(disk, from, "rename it to " + to.string(), errno);
}

void sync_folder(Disk& disk, const fs::path& folder) {
  const int fd = uninterrupted([&] { return disk.open(folder.string(), O_RDONLY | O_DIRECTORY, 0); });
  if (fd < 0) fail(disk, folder, "open the folder", errno);
  const int result = uninterrupted([&] { return disk.sync(fd); });
  const int error = errno;
  disk.close(fd);
  // EINVAL: a file system that has no such thing (some network and FUSE ones); there is nothing more that could be done.
  if (result != 0 && error != EINVAL) fail(disk, folder, "make its entries durable", error);
}

void make_folders(Disk& disk, const fs::path& folder) {
  const auto make = [&] { return uninterrupted([&] { return disk.make_folder(folder.string()); }); };
  if (make() != 0) {
    if (errno == EEXIST) return;
    if (errno != ENOENT || !folder.has_parent_path() || folder.parent_path() == folder) fail(disk, folder, "make the folder", errno);
    make_folders(disk, folder.parent_path());
    if (make() != 0 && errno != EEXIST) fail(disk, folder, "make the folder", errno);
  }
  sync_folder(disk, parent_of(folder));
}

void remove_folder(Disk& disk, const fs::path& folder) {
  for (const auto& name : list_folder(disk, folder)) {
    const fs::path path = folder / name;
    if (uninterrupted([&] { return disk.unlink(path.string()); }) != 0 && errno != ENOENT) fail(disk, path, "remove the file", errno);
  }
  if (uninterrupted([&] { return disk.remove_folder(folder.string()); }) != 0 && errno != ENOENT) fail(disk, folder, "remove the folder", errno);
}

std::vector<std::string> list_folder(Disk& disk, const fs::path& folder) {
  std::vector<std::string> names;
  if (uninterrupted([&] { names.clear(); return disk.list(folder.string(), names); }) != 0) {
    if (errno == ENOENT) return {};
    fail(disk, folder, "list the folder", errno);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace sluice
