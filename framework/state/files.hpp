// Files that are whole or absent: short writes, EINTR, a full disk and a lost power cord handled in one place.
// Every function throws Error(Code::io) that names the path, the bytes and what the disk said.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "framework/state/disk.hpp"

namespace sluice {

// A file being written from its start. Move-only; closes itself. Not durable before sync() and sync_folder() of its folder.
class OutputFile {
 public:
  // Creates or empties the file.
  OutputFile(Disk& disk, std::filesystem::path path);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();

  // Claims the bytes now, so that a full disk shows before anything is written; no effect where the file system cannot.
  void reserve(std::uint64_t bytes);
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  void sync();
  void close();  // throws what the disk reports late; the destructor does not
  [[nodiscard]] std::uint64_t written() const { return written_; }

 private:
  Disk* disk_;
  std::filesystem::path path_;
  int fd_ = -1;
  std::uint64_t written_ = 0;
};

// A regular file open for reading, at any offset, from any thread. Move-only.
class InputFile {
 public:
  InputFile(Disk& disk, std::filesystem::path path);
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&&) = delete;
  ~InputFile();

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::uint64_t size() const { return size_; }
  // Fills the whole span or throws: a file that ends earlier is an error.
  void read(std::uint64_t offset, std::span<std::byte> into) const;

 private:
  Disk* disk_;
  std::filesystem::path path_;
  int fd_ = -1;
  std::uint64_t size_ = 0;
};

// Replaces the file by this text, durably: written beside it, synced, renamed, folder synced. After a crash it is the old or the new one.
void write_file(Disk& disk, const std::filesystem::path& path, std::string_view text);
// The whole file; refuses more than `limit` bytes.
[[nodiscard]] std::string read_file(Disk& disk, const std::filesystem::path& path, std::uint64_t limit);
// Takes the place of what `to` names. Not durable before sync_folder().
void rename_path(Disk& disk, const std::filesystem::path& from, const std::filesystem::path& to);
// Makes created, renamed and removed names in the folder durable.
void sync_folder(Disk& disk, const std::filesystem::path& folder);
// Makes the folder and its parents; what is there already is left alone. Durable.
void make_folders(Disk& disk, const std::filesystem::path& folder);
// Removes a folder of files (no folders below it, as a checkpoint is). Missing is fine. Not durable by itself.
void remove_folder(Disk& disk, const std::filesystem::path& folder);
// Names in the folder, sorted; none where there is no such folder.
[[nodiscard]] std::vector<std::string> list_folder(Disk& disk, const std::filesystem::path& folder);

}  // namespace sluice
