// Reads the manifests of a plugin file from its ELF section, without running a byte of it. Every offset and size in the file
// is checked: the file may be anything.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <sluice/abi.hpp>
#include <sluice/manifest.hpp>

namespace sluice {

// Where the bytes of a file come from.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  [[nodiscard]] virtual std::uint64_t size() const = 0;
  // Fills `to` from `offset`; the caller has checked that it lies inside. False when the bytes cannot be had.
  virtual bool read(std::uint64_t offset, std::span<std::byte> to) const = 0;
};

class MemoryBytes final : public ByteSource {
 public:
  explicit MemoryBytes(std::span<const std::byte> bytes) : bytes_(bytes) {}
  [[nodiscard]] std::uint64_t size() const override { return bytes_.size(); }
  bool read(std::uint64_t offset, std::span<std::byte> to) const override;

 private:
  std::span<const std::byte> bytes_;
};

class FileBytes final : public ByteSource {
 public:
  explicit FileBytes(int fd);  // borrowed; its size is taken now
  [[nodiscard]] std::uint64_t size() const override { return size_; }
  bool read(std::uint64_t offset, std::span<std::byte> to) const override;

 private:
  int fd_;
  std::uint64_t size_;
};

// The manifests in the order of the section, each validated. Throws Error(Code::plugin) that says what the file is instead.
[[nodiscard]] std::vector<abi::Manifest> read_manifests(const ByteSource& file);

// Empty when the record is one that this sluice can use: magic, size, interface version, known kind and types, texts that end
// and hold nothing but printable UTF-8. Otherwise what is wrong with it.
[[nodiscard]] std::string manifest_problem(const abi::Manifest& manifest);

}  // namespace sluice
