// Reads the small text files of the kernel.
#include "framework/memory/proc_files.hpp"

#include <charconv>
#include <fstream>
#include <sstream>

#include "framework/base/strings.hpp"

namespace sluice {

std::optional<std::string> contents_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return std::nullopt;
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

std::optional<std::uint64_t> leading_number(std::string_view text) {
  text = trim(text);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data()) return std::nullopt;
  return value;
}

std::optional<std::uint64_t> number_in(const std::filesystem::path& file) {
  const auto text = contents_of(file);
  return text ? leading_number(*text) : std::nullopt;
}

std::optional<std::uint64_t> field_in(const std::filesystem::path& file, std::string_view key) {
  const auto text = contents_of(file);
  if (!text) return std::nullopt;
  for (const auto& line : split(*text, '\n'))
    if (line.size() > key.size() && line.compare(0, key.size(), key) == 0) return leading_number(std::string_view(line).substr(key.size()));
  return std::nullopt;
}

}  // namespace sluice
