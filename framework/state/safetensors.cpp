// Writes safetensors files: 8 bytes with the header's length, a JSON header, then the tensors one after another.
// Larger elements come first, so that every tensor begins at a multiple of its element's size.
#include "framework/state/safetensors.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <sluice/error.hpp>

#include "framework/base/strings.hpp"
#include "framework/state/hash.hpp"
#include "framework/state/safetensors_header.hpp"

namespace sluice {
namespace {

struct Known {
  TensorType type;
  std::string_view name;
  std::uint64_t bytes;
};
constexpr std::array<Known, 8> types{{{TensorType::f64, "F64", 8}, {TensorType::f32, "F32", 4}, {TensorType::f16, "F16", 2},
                                      {TensorType::bf16, "BF16", 2}, {TensorType::i64, "I64", 8}, {TensorType::i32, "I32", 4},
                                      {TensorType::u8, "U8", 1}, {TensorType::boolean, "BOOL", 1}}};

std::string json_text(const std::string& text, const std::filesystem::path& path) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    throw Error(Code::data, fmt::format("the name {} is not UTF-8", in_quotes(text)), "rename it", path.string());
  }
}

std::string header_of(const std::vector<const TensorToWrite*>& ordered, const std::vector<std::uint64_t>& sizes, const Metadata& metadata,
                      const std::filesystem::path& path) {
  std::string header = "{";
  const auto member = [&](const std::string& key, const std::string& value) {
    if (header.size() > 1) header += ',';
    header += fmt::format("{}:{}", json_text(key, path), value);
  };
  if (!metadata.empty()) {
    std::vector<std::string> members;
    for (const auto& [key, value] : metadata) members.push_back(fmt::format("{}:{}", json_text(key, path), json_text(value, path)));
    member("__metadata__", fmt::format("{{{}}}", fmt::join(members, ",")));
  }
  std::uint64_t begin = 0;
  for (std::size_t i = 0; i < ordered.size(); ++i) {
    const auto& tensor = *ordered[i];
    member(tensor.name, fmt::format(R"({{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", name_of(tensor.type),
                                    fmt::join(tensor.shape, ","), begin, begin + sizes[i]));
    begin += sizes[i];
  }
  header += '}';
  header.append((8 - header.size() % 8) % 8, ' ');
  return header;
}

}  // namespace

std::string_view name_of(TensorType type) { return types[static_cast<std::size_t>(type)].name; }
std::uint64_t bytes_of(TensorType type) { return types[static_cast<std::size_t>(type)].bytes; }

std::optional<TensorType> tensor_type(std::string_view name) {
  for (const auto& known : types)
    if (known.name == name) return known.type;
  return std::nullopt;
}

std::optional<std::uint64_t> tensor_bytes(TensorType type, const std::vector<std::int64_t>& shape) {
  std::uint64_t bytes = bytes_of(type);
  bool empty = false;
  for (const auto extent : shape) {
    if (extent < 0) return std::nullopt;
    if (extent == 0) {
      empty = true;
      continue;
    }
    if (bytes > (std::uint64_t{1} << 62) / static_cast<std::uint64_t>(extent)) return std::nullopt;
    bytes *= static_cast<std::uint64_t>(extent);
  }
  return empty ? 0 : bytes;
}

std::uint64_t safetensors_bytes(const std::vector<TensorToWrite>& tensors) {
  std::uint64_t bytes = 0;
  for (const auto& tensor : tensors) bytes += tensor_bytes(tensor.type, tensor.shape).value_or(0) + tensor.name.size() + 128;
  return bytes;
}

WrittenFile write_safetensors(Disk& disk, const std::filesystem::path& path, const std::vector<TensorToWrite>& tensors, const Metadata& metadata) {
  std::vector<const TensorToWrite*> ordered;
  for (const auto& tensor : tensors) ordered.push_back(&tensor);
  std::sort(ordered.begin(), ordered.end(), [](const TensorToWrite* a, const TensorToWrite* b) {
    return bytes_of(a->type) != bytes_of(b->type) ? bytes_of(a->type) > bytes_of(b->type) : a->name < b->name;
  });

  std::vector<std::string_view> names;
  std::vector<std::uint64_t> sizes;
  for (const auto* tensor : ordered) {
    const auto bytes = tensor_bytes(tensor->type, tensor->shape);
    if (!bytes) throw Error(Code::data, fmt::format("tensor {} has an impossible shape [{}]", in_quotes(tensor->name), fmt::join(tensor->shape, ", ")), {}, path.string());
    if (tensor->name == "__metadata__") throw Error(Code::data, "no tensor may be named '__metadata__'", "rename it", path.string());
    sizes.push_back(*bytes);
    names.push_back(tensor->name);
  }
  std::sort(names.begin(), names.end());
  if (const auto twice = std::adjacent_find(names.begin(), names.end()); twice != names.end())
    throw Error(Code::data, fmt::format("two tensors are named {}", in_quotes(*twice)), "rename one of them", path.string());

  const std::string header = header_of(ordered, sizes, metadata, path);
  if (header.size() > largest_safetensors_header)
    throw Error(Code::data, fmt::format("the header would have {} bytes, the format allows {}", with_commas(header.size()), with_commas(largest_safetensors_header)), {}, path.string());

  std::array<std::byte, 8> length{};
  for (std::size_t i = 0; i < length.size(); ++i) length[i] = static_cast<std::byte>(header.size() >> (8 * i) & 0xFF);

  OutputFile file(disk, path);
  file.reserve(std::accumulate(sizes.begin(), sizes.end(), std::uint64_t{8 + header.size()}));
  Hash hash;
  const auto put = [&](std::span<const std::byte> bytes) {
    hash.add(bytes);
    file.write(bytes);
  };
  put(length);
  put(std::as_bytes(std::span(header)));
  for (std::size_t i = 0; i < ordered.size(); ++i) {
    const auto bytes = ordered[i]->fetch ? ordered[i]->fetch() : ordered[i]->bytes;
    if (bytes.size() != sizes[i])
      throw Error(Code::data, fmt::format("tensor {} has {} bytes, its shape says {}", in_quotes(ordered[i]->name), with_commas(bytes.size()), with_commas(sizes[i])), {}, path.string());
    put(bytes);
  }
  file.sync();
  file.close();
  return {file.written(), hash.hex()};
}

SafetensorsFile::SafetensorsFile(Disk& disk, const std::filesystem::path& path) : file_(disk, path) {
  const auto broken = [&](const std::string& why) { return Error(Code::data, why, "the file is damaged or no safetensors file", path.string()); };
  std::array<std::byte, 8> length{};
  if (file_.size() < length.size()) throw broken(fmt::format("{} are too few for a safetensors file", counted(file_.size(), "byte")));
  file_.read(0, length);
  std::uint64_t header_bytes = 0;
  for (std::size_t i = 0; i < length.size(); ++i) header_bytes |= std::to_integer<std::uint64_t>(length[i]) << (8 * i);
  if (header_bytes > largest_safetensors_header || header_bytes > file_.size() - length.size())
    throw broken(fmt::format("the header claims {} bytes", with_commas(header_bytes)));

  std::string header(header_bytes, '\0');
  file_.read(length.size(), std::as_writable_bytes(std::span(header)));
  try {
    auto parsed = parse_safetensors_header(header, file_.size() - length.size() - header_bytes);
    tensors_ = std::move(parsed.tensors);
    metadata_ = std::move(parsed.metadata);
  } catch (const Error& error) {
    throw broken(error.message());
  }
  for (auto& tensor : tensors_) tensor.offset += length.size() + header_bytes;
}

const TensorInFile* SafetensorsFile::find(std::string_view name) const {
  const auto at = std::lower_bound(tensors_.begin(), tensors_.end(), name, [](const TensorInFile& tensor, std::string_view wanted) { return tensor.name < wanted; });
  return at != tensors_.end() && at->name == name ? &*at : nullptr;
}

void SafetensorsFile::read(const TensorInFile& tensor, std::span<std::byte> into) const {
  if (into.size() != tensor.bytes)
    throw Error(Code::data, fmt::format("tensor {} has {} bytes, there is room for {}", in_quotes(tensor.name), with_commas(tensor.bytes), with_commas(into.size())), {}, file_.path().string());
  file_.read(tensor.offset, into);
}

std::vector<std::byte> SafetensorsFile::read(const TensorInFile& tensor) const {
  std::vector<std::byte> bytes(tensor.bytes);
  read(tensor, bytes);
  return bytes;
}

}  // namespace sluice
