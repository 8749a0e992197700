// Finds, describes and merges values.
#include "framework/config/tables.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "framework/base/strings.hpp"
#include "framework/config/toml.hpp"

namespace sluice {

const Member* find(const Table& table, std::string_view key) {
  const auto at = std::find_if(table.begin(), table.end(), [&](const Member& member) { return member.key == key; });
  return at == table.end() ? nullptr : &*at;
}

Member* find(Table& table, std::string_view key) { return const_cast<Member*>(find(std::as_const(table), key)); }

std::string_view type_of(const Value& value) {
  struct Name {
    std::string_view operator()(bool) const { return "true or false"; }
    std::string_view operator()(std::int64_t) const { return "a whole number"; }
    std::string_view operator()(double) const { return "a number"; }
    std::string_view operator()(const std::string&) const { return "text"; }
    std::string_view operator()(const List&) const { return "a list"; }
    std::string_view operator()(const Table&) const { return "a table"; }
  };
  return std::visit(Name{}, value.data);
}

std::string shown(const Value& value) {
  if (const auto* text = as_text(value)) return in_quotes(*text);
  std::string text = toml_text(value);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return first_bad_utf8(text) ? std::string(type_of(value)) : text;
}

void merge(Table& base, Table layer) {
  for (Member& member : layer) {
    Member* there = find(base, member.key);
    if (!there) {
      base.push_back(std::move(member));
    } else if (auto* table = std::get_if<Table>(&there->value.data); table && as_table(member.value)) {
      merge(*table, std::get<Table>(std::move(member.value.data)));
    } else {
      *there = std::move(member);
    }
  }
}

}  // namespace sluice
