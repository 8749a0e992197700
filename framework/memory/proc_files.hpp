// The small text files of /proc and /sys: one number, or lines "key value".
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace sluice {

[[nodiscard]] std::optional<std::string> contents_of(const std::filesystem::path& file);
// Leading digits; nothing where there are none.
[[nodiscard]] std::optional<std::uint64_t> leading_number(std::string_view text);
[[nodiscard]] std::optional<std::uint64_t> number_in(const std::filesystem::path& file);
// The number behind `key` in lines such as "VmHWM:   1234 kB" and "inactive_file 5678".
[[nodiscard]] std::optional<std::uint64_t> field_in(const std::filesystem::path& file, std::string_view key);

}  // namespace sluice
