// Sizes in bytes as people write them: "512MiB", "1.5GiB", "2GB".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice {

inline constexpr std::uint64_t KiB = std::uint64_t{1} << 10;
inline constexpr std::uint64_t MiB = std::uint64_t{1} << 20;
inline constexpr std::uint64_t GiB = std::uint64_t{1} << 30;

// A number and a unit: B, kB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (powers of 1024); without a unit, bytes.
// Upper or lower case, a space before the unit allowed. Throws Error(Code::configuration); the result is below 2^63.
[[nodiscard]] std::uint64_t parse_bytes(std::string_view text);

// For reading: three significant digits, "1.46 GiB", "612 MiB", "17 B".
[[nodiscard]] std::string format_bytes(std::uint64_t bytes);

// For a file: text that parse_bytes() reads back as at least `bytes`, rounded up to whole MiB where that is below 1 %.
[[nodiscard]] std::string bytes_to_write(std::uint64_t bytes);

}  // namespace sluice
