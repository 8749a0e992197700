// Reads and writes sizes; independent of the locale.
#include "framework/base/bytes.hpp"

#include <array>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/base/strings.hpp"

namespace sluice {
namespace {

struct Unit {
  std::string_view name;  // in lower case
  std::uint64_t bytes;
};
constexpr std::array<Unit, 10> units{{{"", 1}, {"b", 1}, {"kb", 1000}, {"mb", 1000000}, {"gb", 1000000000}, {"tb", 1000000000000},
                                      {"kib", KiB}, {"mib", MiB}, {"gib", GiB}, {"tib", GiB << 10}}};
constexpr const char* how = "write a number and a unit: 512MiB, 1.5GiB (powers of 1024), 2GB (powers of 1000), or a whole number of bytes";

[[noreturn]] void refuse(std::string_view text, std::string_view why, std::string hint = how) {
  throw Error(Code::configuration, fmt::format("{} is no size: {}", in_quotes(text), why), std::move(hint));
}

}  // namespace

std::uint64_t parse_bytes(std::string_view text) {
  const std::string_view trimmed = trim(text);
  if (trimmed.empty()) refuse(text, "it is empty");
  if (trimmed.front() == '-') refuse(text, "it is negative");

  const auto digits = trimmed.find_first_not_of("0123456789.");
  const std::string_view number = trimmed.substr(0, digits);
  const std::string_view given_unit = digits == std::string_view::npos ? std::string_view{} : trim(trimmed.substr(digits));
  const std::string unit = lower(given_unit);
  const Unit* found = nullptr;
  for (const Unit& candidate : units)
    if (candidate.name == unit) found = &candidate;
  if (!number.empty() && !found) {
    const bool letter = unit.size() == 1 && std::string_view("kmgt").find(unit[0]) != std::string_view::npos;
    const char big = letter ? static_cast<char>(unit[0] - 'a' + 'A') : ' ';
    if (letter) refuse(text, fmt::format("{} may mean powers of 1000 or of 1024", in_quotes(given_unit)), fmt::format("write {0}{1}iB or {0}{1}B", number, big));
    refuse(text, fmt::format("{} is no unit", in_quotes(given_unit)));
  }
  if (number.empty()) refuse(text, "it does not begin with a number");

  if (number.find('.') == std::string_view::npos) {
    std::uint64_t whole = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), whole);
    if (error != std::errc() || end != number.data() + number.size() || whole > (std::uint64_t{1} << 63) / found->bytes - 1)
      refuse(text, "it is larger than any memory");
    return whole * found->bytes;
  }
  double real = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), real, std::chars_format::fixed);
  if (error != std::errc() || end != number.data() + number.size()) refuse(text, fmt::format("{} is no number", in_quotes(number)));
  const double bytes = std::round(real * static_cast<double>(found->bytes));
  if (!(bytes < 0x1.0p63)) refuse(text, "it is larger than any memory");
  return static_cast<std::uint64_t>(bytes);
}

std::string format_bytes(std::uint64_t bytes) {
  constexpr std::array<const char*, 5> names{"B", "KiB", "MiB", "GiB", "TiB"};
  if (bytes < KiB) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 999.5 && unit + 1 < names.size()) {
    value /= 1024;
    ++unit;
  }
  const int decimals = value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return fmt::format("{:.{}f} {}", value, decimals, names[unit]);
}

std::string bytes_to_write(std::uint64_t bytes) {
  if (bytes % GiB == 0 && bytes != 0) return fmt::format("{}GiB", bytes / GiB);
  if (bytes % MiB == 0 && bytes != 0) return fmt::format("{}MiB", bytes / MiB);
  const std::uint64_t mebibytes = (bytes + MiB - 1) / MiB;
  if (mebibytes >= 100) return fmt::format("{}MiB", mebibytes);
  return fmt::format("{}", bytes);
}

}  // namespace sluice
