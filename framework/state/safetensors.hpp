// Safetensors files (https://github.com/huggingface/safetensors): named tensors that Python reads too. No code in them, every bound checked.
//
//   write_safetensors(disk, "model.safetensors", {{"fc.weight", TensorType::f32, {8, 512}, bytes}}, {{"format", "pt"}});
//   SafetensorsFile file(disk, "model.safetensors");
//   file.read(*file.find("fc.weight"), into);
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "framework/state/disk.hpp"
#include "framework/state/files.hpp"

namespace sluice {

enum class TensorType : std::uint8_t { f64, f32, f16, bf16, i64, i32, u8, boolean };
[[nodiscard]] std::string_view name_of(TensorType type);  // as in the file: "F64", ... "BOOL"
[[nodiscard]] std::uint64_t bytes_of(TensorType type);

// A tensor to write, contiguous and little-endian. Either `bytes` or `fetch` is given.
struct TensorToWrite {
  std::string name;
  TensorType type = TensorType::f32;
  std::vector<std::int64_t> shape{};  // empty: a scalar
  std::span<const std::byte> bytes{};
  // Called once, when it is this tensor's turn; what it returns must last until the next call. For tensors that lie on a device:
  // only one of them is on the host at a time.
  std::function<std::span<const std::byte>()> fetch{};
};

// What a written file is: for a manifest.
struct WrittenFile {
  std::uint64_t bytes = 0;
  std::string hash;  // xxh3-128 in hex
};

using Metadata = std::map<std::string, std::string>;

// Writes the file from its start and syncs it; whoever calls renames. Tensors are ordered by element size, then name.
// Throws Error(Code::io), and Error(Code::data) for two tensors of one name or bytes that do not fit the shape.
WrittenFile write_safetensors(Disk& disk, const std::filesystem::path& path, const std::vector<TensorToWrite>& tensors, const Metadata& metadata = {});

struct TensorInFile {
  std::string name;
  TensorType type = TensorType::f32;
  std::vector<std::int64_t> shape;
  std::uint64_t offset = 0;  // in the file
  std::uint64_t bytes = 0;
};

// Opens and checks the header: types, shapes, offsets without gap or overlap, the file's size. Throws Error(Code::data) with the defect.
class SafetensorsFile {
 public:
  SafetensorsFile(Disk& disk, const std::filesystem::path& path);

  [[nodiscard]] const std::filesystem::path& path() const { return file_.path(); }
  [[nodiscard]] const std::vector<TensorInFile>& tensors() const { return tensors_; }  // sorted by name
  [[nodiscard]] const TensorInFile* find(std::string_view name) const;                 // null: not there
  [[nodiscard]] const Metadata& metadata() const { return metadata_; }
  // Fills exactly the tensor's bytes.
  void read(const TensorInFile& tensor, std::span<std::byte> into) const;
  [[nodiscard]] std::vector<std::byte> read(const TensorInFile& tensor) const;

 private:
  InputFile file_;
  std::vector<TensorInFile> tensors_;
  Metadata metadata_;
};

}  // namespace sluice
