// A file of the user's, opened so that nothing can hang: regular files only. Shared by the decoders.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace sluice::decode {

// What tells one state of a file from another.
struct Identity {
  std::uint64_t size = 0;
  std::int64_t modified_ns = 0;
  friend bool operator==(const Identity&, const Identity&) = default;
};

class InputFile {
 public:
  // Throws sluice::Error(Code::data) for what is missing, empty, no regular file or unreadable; the text names the file.
  explicit InputFile(std::string path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] const std::string& name() const { return name_; }  // printable(path)
  [[nodiscard]] const Identity& identity() const { return identity_; }

  // Up to `bytes` bytes at `offset`; fewer only at the end of the file. Throws Code::io when the disk fails.
  std::size_t read(void* to, std::size_t bytes, std::uint64_t offset) const;

  // Throws Code::data if the file changed since it was opened.
  void check_unchanged() const;

 private:
  std::string path_;
  std::string name_;
  Identity identity_;
  int descriptor_ = -1;
};

// The path as UTF-8: bytes that are none appear as \xNN.
std::string printable(const std::string& path);

// The path from the root, links not resolved: what a cache knows the file by.
std::string absolute(const std::string& path);

}  // namespace sluice::decode
