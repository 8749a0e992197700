// Small text helpers: trimming, splitting, quoting, the names nearest to a misspelt one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

[[nodiscard]] std::string_view trim(std::string_view text);  // ASCII white space
[[nodiscard]] std::string lower(std::string_view text);      // ASCII
[[nodiscard]] std::vector<std::string> split(std::string_view text, char separator);  // "a,,b" gives three; "" gives one
[[nodiscard]] std::string join(const std::vector<std::string>& parts, std::string_view separator);

// 'text' for a message: control characters and bytes that are not UTF-8 escaped, long texts cut.
[[nodiscard]] std::string in_quotes(std::string_view text);
// "1 clip", "3 clips".
[[nodiscard]] std::string counted(std::uint64_t n, std::string_view noun);
// 1600 -> "1,600".
[[nodiscard]] std::string with_commas(std::uint64_t n);

// Well-formed UTF-8 without control characters: may go to a terminal as it is.
[[nodiscard]] bool is_printable(std::string_view text);
// Offset of the first byte that is not well-formed UTF-8.
[[nodiscard]] std::optional<std::size_t> first_bad_utf8(std::string_view text);

// Insertions, deletions, replacements and swaps of neighbours that lead from one to the other.
[[nodiscard]] std::size_t edit_distance(std::string_view a, std::string_view b);
// Those of `known` that a person who typed `name` may have meant, best first, at most `limit`.
[[nodiscard]] std::vector<std::string> nearest(std::string_view name, const std::vector<std::string>& known, std::size_t limit = 3);

}  // namespace sluice
