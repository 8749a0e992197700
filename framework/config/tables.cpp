// Finds, describes and merges values.
#include "framework/config/tables.hpp"

#include <algorithm>
#include <unordered_map>

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

std::string described(const Value& value) {
  if (as_text(value)) return "text " + shown(value);
  if (as_list(value)) return "the list " + shown(value);
  if (as_table(value)) return "a table";
  return shown(value);
}

void merge(Table& base, Table layer) {
  std::unordered_map<std::string, std::size_t> at;  // a file may have very many keys
  for (std::size_t i = 0; i < base.size(); ++i) at.emplace(base[i].key, i);
  for (Member& member : layer) {
    const auto there = at.find(member.key);
    if (there == at.end()) {
      base.push_back(std::move(member));
      continue;
    }
    Member& below = base[there->second];
    auto* table = std::get_if<Table>(&below.value.data);
    if (table && as_table(member.value)) merge(*table, std::get<Table>(std::move(member.value.data)));
    else below = std::move(member);
  }
}

}  // namespace sluice
