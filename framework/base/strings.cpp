// Text helpers; all of them independent of the locale.
#include "framework/base/strings.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace sluice {
namespace {

constexpr std::string_view white = " \t\r\n\v\f";
constexpr std::size_t longest_quoted = 120;

// Bytes of the UTF-8 sequence at `at`, 0 where it is malformed (also overlong forms, surrogates, above U+10FFFF).
std::size_t utf8_length(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(at);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || at + length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(at + i) & 0xC0) != 0x80) return 0;
  const unsigned second = byte(at + 1);
  if (first == 0xE0 && second < 0xA0) return 0;
  if (first == 0xED && second > 0x9F) return 0;
  if (first == 0xF0 && second < 0x90) return 0;
  if (first == 0xF4 && second > 0x8F) return 0;
  return length;
}

// C1 controls (U+0080 to U+009F) move a terminal's cursor as well.
bool is_control(std::string_view text, std::size_t at, std::size_t length) {
  const auto byte = static_cast<unsigned char>(text[at]);
  return byte < 0x20 || byte == 0x7F || (length == 2 && byte == 0xC2 && static_cast<unsigned char>(text[at + 1]) < 0xA0);
}

}  // namespace

std::string_view trim(std::string_view text) {
  const auto begin = text.find_first_not_of(white);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(white) - begin + 1);
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (;;) {
    const auto at = text.find(separator);
    parts.emplace_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

std::string join(const std::vector<std::string>& parts, std::string_view separator) {
  return fmt::format("{}", fmt::join(parts, separator));
}

std::string in_quotes(std::string_view text) {
  std::string out = "'";
  for (std::size_t i = 0; i < text.size();) {
    if (out.size() > longest_quoted) {
      out += "...";
      break;
    }
    const auto length = utf8_length(text, i);
    if (length == 0 || is_control(text, i, length)) {
      for (std::size_t k = 0; k < std::max<std::size_t>(length, 1); ++k) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[i + k]));
    } else {
      out += text.substr(i, length);
    }
    i += std::max<std::size_t>(length, 1);
  }
  return out + "'";
}

std::string counted(std::uint64_t n, std::string_view noun) { return fmt::format("{} {}{}", with_commas(n), noun, n == 1 ? "" : "s"); }

std::string with_commas(std::uint64_t n) {
  std::string out = std::to_string(n);
  for (auto at = static_cast<std::ptrdiff_t>(out.size()) - 3; at > 0; at -= 3) out.insert(static_cast<std::size_t>(at), 1, ',');
  return out;
}

bool is_printable(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto length = utf8_length(text, i);
    if (length == 0 || is_control(text, i, length)) return false;
    i += length;
  }
  return true;
}

std::optional<std::size_t> first_bad_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto length = utf8_length(text, i);
    if (length == 0) return i;
    i += length;
  }
  return std::nullopt;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  // Optimal string alignment over three rows (Damerau 1964, restricted).
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

std::vector<std::string> nearest(std::string_view name, const std::vector<std::string>& known, std::size_t limit) {
  if (name.size() > 200) return {};
  const std::string typed = lower(name);
  std::vector<std::pair<std::size_t, std::string>> ranked;
  for (const auto& candidate : known) {
    const std::string other = lower(candidate);
    std::size_t distance = edit_distance(typed, other);
    // "hflip" for "augment.hflip", "augment.flip" for "augment.hflip_random": the word is there, the rest is not.
    const bool inside = typed.size() >= 3 && (other.find(typed) != std::string::npos || (other.size() >= 3 && typed.find(other) != std::string::npos));
    if (inside) distance = std::min<std::size_t>(distance, 1);
    if (distance <= std::max<std::size_t>(1, std::max(typed.size(), other.size()) / 3)) ranked.emplace_back(distance, candidate);
  }
  std::sort(ranked.begin(), ranked.end());
  std::vector<std::string> out;
  for (const auto& [distance, candidate] : ranked)  // not what is much farther than the best
    if (distance <= ranked.front().first + 1 && out.size() < limit && std::find(out.begin(), out.end(), candidate) == out.end()) out.push_back(candidate);
  return out;
}

}  // namespace sluice
