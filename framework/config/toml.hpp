// TOML in and out, as Values with places. The library toml++ is known to toml.cpp alone.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "framework/config/value.hpp"

namespace sluice {

inline constexpr std::size_t largest_toml_file = std::size_t{256} << 10;
inline constexpr int deepest_toml_key = 16;      // a.b.c is 3 deep
inline constexpr int deepest_toml_nesting = 32;  // of lists and inline tables

// Reads a file whose errors call it `name`. Throws Error: Code::configuration with file:line:column for what is in it or when it does not
// exist, Code::io when the disk fails.
[[nodiscard]] Table read_toml(const std::filesystem::path& file, const std::string& name, int layer);
[[nodiscard]] Table parse_toml(std::string_view text, const std::string& name, int layer);

// One value in TOML's syntax, nothing where it is none. Places are those of `place`.
[[nodiscard]] std::optional<Value> parse_toml_value(std::string_view text, const Place& place);

// One value, in one line.
[[nodiscard]] std::string toml_text(const Value& value);
// A whole file: sections and [[lists of tables]] one level deep, everything below them inline. parse_toml() reads the same values back.
[[nodiscard]] std::string write_toml(const Table& table);

}  // namespace sluice
