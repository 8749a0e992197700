// Writes Values as TOML that reads back to the same bits.
#include <cmath>

#include <fmt/format.h>

#include "framework/base/strings.hpp"
#include "framework/config/tables.hpp"
#include "framework/config/toml.hpp"

namespace sluice {
namespace {

std::string text_of(double real) {
  if (std::isnan(real)) return "nan";
  if (std::isinf(real)) return real < 0 ? "-inf" : "inf";
  std::string text = fmt::format("{}", real);  // the shortest that reads back to the same bits, in any locale
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string text_of(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\t': out += "\\t"; break;
      case '\r': out += "\\r"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) out += fmt::format("\\u{:04X}", static_cast<unsigned char>(c));
        else out += c;
    }
  }
  return out + "\"";
}

std::string key_text(const std::string& key) {
  const bool bare = !key.empty() && key.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == std::string::npos;
  return bare ? key : text_of(key);
}

bool list_of_tables(const Value& value) {
  const List* list = as_list(value);
  if (!list || list->empty()) return false;
  for (const Value& item : *list)
    if (!as_table(item)) return false;
  return true;
}

void write_members(std::string& out, const Table& table) {
  for (const Member& member : table) out += key_text(member.key) + " = " + toml_text(member.value) + "\n";
}

}  // namespace

std::string toml_text(const Value& value) {
  struct Writer {
    std::string operator()(bool truth) const { return truth ? "true" : "false"; }
    std::string operator()(std::int64_t number) const { return std::to_string(number); }
    std::string operator()(double real) const { return text_of(real); }
    std::string operator()(const std::string& text) const { return text_of(text); }
    std::string operator()(const List& list) const {
      std::vector<std::string> items;
      for (const Value& item : list) items.push_back(toml_text(item));
      return fmt::format("[{}]", join(items, ", "));
    }
    std::string operator()(const Table& table) const {
      if (table.empty()) return "{}";
      std::vector<std::string> items;
      for (const Member& member : table) items.push_back(key_text(member.key) + " = " + toml_text(member.value));
      return fmt::format("{{ {} }}", join(items, ", "));
    }
  };
  return std::visit(Writer{}, value.data);
}

std::string write_toml(const Table& table) {
  std::string out;
  for (const Member& member : table)
    if (!as_table(member.value) && !list_of_tables(member.value)) out += key_text(member.key) + " = " + toml_text(member.value) + "\n";
  for (const Member& member : table) {
    if (const Table* section = as_table(member.value)) {
      out += fmt::format("{}[{}]\n", out.empty() ? "" : "\n", key_text(member.key));
      write_members(out, *section);
    } else if (list_of_tables(member.value)) {
      for (const Value& item : *as_list(member.value)) {
        out += fmt::format("{}[[{}]]\n", out.empty() ? "" : "\n", key_text(member.key));
        write_members(out, *as_table(item));
      }
    }
  }
  return out;
}

}  // namespace sluice
