// Overrides of the command line: section.key=value.
#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/base/strings.hpp"
#include "framework/config/layers.hpp"
#include "framework/config/tables.hpp"
#include "framework/config/toml.hpp"

namespace sluice {
namespace {

[[noreturn]] void refuse(const Place& place, std::string what, std::string hint = {}) {
  throw Error(Code::configuration, std::move(what), std::move(hint), place.text());
}

std::string plugin_of(const Value& element) {
  const Table* table = as_table(element);
  const Member* plugin = table ? find(*table, "plugin") : nullptr;
  const std::string* name = plugin ? as_text(plugin->value) : nullptr;
  return name ? *name : std::string();
}

// The names of the elements of a list: plugin, and #n from its second occurrence on.
std::vector<std::string> names_of(const List& list) {
  std::vector<std::string> names;
  std::vector<std::string> plugins;
  for (const Value& element : list) {
    plugins.push_back(plugin_of(element));
    const auto nth = std::count(plugins.begin(), plugins.end(), plugins.back());
    names.push_back(nth > 1 ? fmt::format("{}#{}", plugins.back(), nth) : plugins.back());
  }
  return names;
}

std::string listed(const std::vector<std::string>& names) {
  std::vector<std::string> lines;
  for (std::size_t i = 0; i < names.size(); ++i) lines.push_back(fmt::format("{} {}", i, names[i]));
  return join(lines, ", ");
}

struct Element {
  std::size_t index;
  std::size_t parts;  // of the address that named it
};

Element find_element(const List& list, const std::vector<std::string>& address, std::size_t at, const Place& place) {
  const auto names = names_of(list);
  const std::string in = join({address.begin(), address.begin() + static_cast<std::ptrdiff_t>(at)}, ".");
  const std::string have = list.empty() ? in + " is empty" : fmt::format("{} has: {}", in, listed(names));

  const std::string& first = address[at];
  if (first.find_first_not_of("0123456789") == std::string::npos) {
    std::size_t index = 0;
    const auto [end, error] = std::from_chars(first.data(), first.data() + first.size(), index);
    if (error != std::errc() || end != first.data() + first.size() || index >= list.size()) refuse(place, fmt::format("there is no {}.{}", in, first), have);
    return {index, 1};
  }
  for (std::size_t parts = address.size() - at; parts > 0; --parts) {
    const std::string name = join({address.begin() + static_cast<std::ptrdiff_t>(at), address.begin() + static_cast<std::ptrdiff_t>(at + parts)}, ".");
    for (std::size_t i = 0; i < names.size(); ++i)
      if (names[i] == name || names[i] == in + "." + name) return {i, parts};
  }
  std::vector<std::size_t> ends_so;
  for (std::size_t i = 0; i < names.size(); ++i)
    if (names[i].ends_with("." + first)) ends_so.push_back(i);
  if (ends_so.size() == 1) return {ends_so[0], 1};
  const std::string rest = join({address.begin() + static_cast<std::ptrdiff_t>(at), address.end()}, ".");
  refuse(place, fmt::format("no element of {} is called {}", in, in_quotes(rest)), have);
}

Value& descend(Table& table, const std::string& key, const Place& place) {
  if (Member* there = find(table, key)) return there->value;
  table.push_back({key, place, {Table{}, place}});
  return table.back().value;
}

void apply(Table& root, const std::string& text) {
  const Place place{"command line: " + in_quotes(text).substr(1, in_quotes(text).size() - 2), 0, 0, command_line_layer};
  const auto equals = text.find('=');
  if (equals == std::string::npos || equals == 0) refuse(place, "an override is written key=value", "for example batch.size=8 or model.backbone.plugin=backbone.slow_r50");
  std::vector<std::string> address;
  for (const auto& part : split(std::string_view(text).substr(0, equals), '.')) address.emplace_back(trim(part));
  for (const auto& part : address)
    if (part.empty()) refuse(place, fmt::format("{} is no key", in_quotes(std::string_view(text).substr(0, equals))), "keys are separated by single dots");
  if (static_cast<int>(address.size()) > deepest_toml_key) refuse(place, fmt::format("the key has more than {} parts", deepest_toml_key));
  if (address[0] == "extends") refuse(place, "a file is extended by a file, not on the command line", "write a file with extends = \"...\" and your changes, or put one with your changes on top: --with changes.toml");

  const std::string_view written = trim(std::string_view(text).substr(equals + 1));
  std::optional<Value> value = parse_toml_value(written, place);
  if (!value) {
    if (first_bad_utf8(written)) refuse(place, "the value is not UTF-8");
    if (!written.empty() && std::string_view("[{\"'").find(written.front()) != std::string_view::npos)
      refuse(place, fmt::format("{} is no TOML value", in_quotes(written)), "lists are written [1, 2], tables { key = value }, text \"...\"; the shell wants the whole in quotes");
    value = Value{std::string(written), place};
  }

  Table* table = &root;
  for (std::size_t at = 0;;) {
    if (at + 1 == address.size()) {
      if (Member* there = find(*table, address[at])) *there = {address[at], place, std::move(*value)};
      else table->push_back({address[at], place, std::move(*value)});
      return;
    }
    Value* next = &descend(*table, address[at], place);
    ++at;
    if (auto* list = std::get_if<List>(&next->data)) {
      const Element found = find_element(*list, address, at, place);
      at += found.parts;
      next = &(*list)[found.index];
      if (at == address.size()) {
        *next = std::move(*value);
        return;
      }
    }
    // backbone = "backbone.r3d_18" is short for { plugin = "backbone.r3d_18" }
    if (const auto* name = as_text(*next)) next->data = Table{{"plugin", next->place, {*name, next->place}}};
    table = std::get_if<Table>(&next->data);
    if (!table) {
      const std::string above = join({address.begin(), address.begin() + static_cast<std::ptrdiff_t>(at)}, ".");
      refuse(place, fmt::format("{} is {}, it has no keys", above, type_of(*next)));
    }
  }
}

}  // namespace

void apply_overrides(Table& merged, const std::vector<std::string>& overrides) {
  for (const auto& text : overrides) apply(merged, text);
}

}  // namespace sluice
