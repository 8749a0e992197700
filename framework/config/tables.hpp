// Access to the values of a pipeline file: find, describe, merge.
#pragma once

#include <string>
#include <string_view>

#include "framework/config/value.hpp"

namespace sluice {

[[nodiscard]] const Member* find(const Table& table, std::string_view key);
[[nodiscard]] Member* find(Table& table, std::string_view key);

[[nodiscard]] inline const Table* as_table(const Value& value) { return std::get_if<Table>(&value.data); }
[[nodiscard]] inline const List* as_list(const Value& value) { return std::get_if<List>(&value.data); }
[[nodiscard]] inline const std::string* as_text(const Value& value) { return std::get_if<std::string>(&value.data); }

// "a whole number", "text", "a list", ... for messages.
[[nodiscard]] std::string_view type_of(const Value& value);
// The value itself for a message: 'abc', 0.5, [1, 2].
[[nodiscard]] std::string shown(const Value& value);
// With its type where that is what is wrong: text 'abc', 0.5, the list [1, 2], a table.
[[nodiscard]] std::string described(const Value& value);

// Puts a later layer on an earlier one: tables merge key by key, everything else (lists too, [[stage]] among them) is
// replaced whole. What is replaced keeps its position among the keys.
void merge(Table& base, Table layer);

}  // namespace sluice
