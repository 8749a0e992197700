// The header of a safetensors file: parsed strictly, event by event, so that a hostile one costs no more than its own bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "framework/state/safetensors.hpp"

namespace sluice {

inline constexpr std::uint64_t largest_safetensors_header = 100'000'000;  // what the format's own reader allows

struct SafetensorsHeader {
  std::vector<TensorInFile> tensors;  // sorted by name; offsets from the end of the header
  Metadata metadata;
};
// `data_bytes`: what follows the header in the file, all of which must belong to a tensor. Throws Error(Code::data).
[[nodiscard]] SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t data_bytes);

[[nodiscard]] std::optional<TensorType> tensor_type(std::string_view name);
// Nothing for a negative extent or more than 2^62 bytes.
[[nodiscard]] std::optional<std::uint64_t> tensor_bytes(TensorType type, const std::vector<std::int64_t>& shape);
// Upper bound of a file with these tensors, but for metadata.
[[nodiscard]] std::uint64_t safetensors_bytes(const std::vector<TensorToWrite>& tensors);

}  // namespace sluice
