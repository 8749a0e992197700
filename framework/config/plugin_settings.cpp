// Checks a plugin's keys against its manifest.
#include "framework/config/plugin_settings.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/format.h>

#include "framework/base/strings.hpp"
#include "framework/config/foreign_keys.hpp"
#include "framework/config/layers.hpp"
#include "framework/config/tables.hpp"
#include "framework/config/toml.hpp"

namespace sluice {

std::string_view name_of(abi::Kind kind) {
  switch (kind) {
    case abi::Kind::source: return "source";
    case abi::Kind::frames: return "frames";
    case abi::Kind::decoder: return "decoder";
    case abi::Kind::stage: return "stage";
    case abi::Kind::backbone: return "backbone";
    case abi::Kind::head: return "head";
    case abi::Kind::model: return "model";
    case abi::Kind::loss: return "loss";
    case abi::Kind::optimizer: return "optimizer";
    case abi::Kind::schedule: return "schedule";
    case abi::Kind::metric: return "metric";
  }
  return "unknown";
}

namespace {

std::string number_text(double value) { return fmt::format("{}", value); }

std::string range_text(const abi::FieldRecord& field) {
  const bool low = field.flags & abi::field_has_min, high = field.flags & abi::field_has_max;
  const bool open_low = field.flags & abi::field_open_min, open_high = field.flags & abi::field_open_max;
  if (low && high && !open_low && !open_high) return fmt::format("{} to {}", number_text(field.min), number_text(field.max));
  std::string text;
  if (low) text = fmt::format("{} {}", open_low ? "above" : "at least", number_text(field.min));
  if (high) text += fmt::format("{}{} {}", low ? " and " : "", open_high ? "below" : "at most", number_text(field.max));
  return text;
}

bool in_range(const abi::FieldRecord& field, double value) {
  if ((field.flags & abi::field_has_min) && (value < field.min || ((field.flags & abi::field_open_min) && value == field.min))) return false;
  if ((field.flags & abi::field_has_max) && (value > field.max || ((field.flags & abi::field_open_max) && value == field.max))) return false;
  return true;
}

std::string kinds_text(const std::vector<abi::Kind>& kinds) {
  std::vector<std::string> names;
  for (const auto kind : kinds) names.emplace_back(name_of(kind));
  if (names.size() < 2) return join(names, "");
  const std::string last = names.back();
  names.pop_back();
  return join(names, ", ") + " or " + last;
}

std::string with_article(const std::string& noun) {
  return (std::string_view("aeiou").find(noun[0]) == std::string_view::npos ? "a " : "an ") + noun;
}

// "did you mean a, b or c?"
std::string did_you_mean(const std::vector<std::string>& names) {
  if (names.empty()) return {};
  std::string text = "did you mean " + names[0];
  for (std::size_t i = 1; i < names.size(); ++i) text += (i + 1 == names.size() ? " or " : ", ") + names[i];
  return text + "?";
}

// A number where text is wanted: its digits were meant.
std::string quoting_hint(const Value& value) {
  return as_list(value) || as_table(value) ? std::string() : fmt::format("write \"{}\"", shown(value));
}

class Checker {
 public:
  Checker(const Catalogue& catalogue, Problems& problems, std::vector<std::string>& notices)
      : catalogue_(catalogue), problems_(problems), notices_(notices) {}

  PluginConfig read(const PluginTable& table, const std::vector<abi::Kind>& kinds) {
    PluginConfig config;
    config.place = table.place;
    const Member* named = find(table.keys, "plugin");
    if (!named) {
      missing_plugin(table, kinds);
      return config;
    }
    config.place = named->value.place;
    const std::string* name = as_text(named->value);
    if (!name || name->empty()) {
      problems_.add(named->value.place, fmt::format("{}.plugin must name a plugin, not {}", table.path, name ? "nothing" : described(named->value)));
      return config;
    }
    config.plugin = *name;
    const abi::Manifest* manifest = known_plugin(table, *named, kinds);
    if (!manifest) return config;
    read_keys(table, *manifest, *named, config.settings);
    return config;
  }

 private:
  void missing_plugin(const PluginTable& table, const std::vector<abi::Kind>& kinds) {
    if (!table.required) return;
    std::vector<std::string> there;
    for (const auto kind : kinds)
      for (auto& name : catalogue_.names(kind)) there.push_back(std::move(name));
    std::string hint;
    const bool more = there.size() > 8;
    if (more) there.resize(8);
    if (!there.empty()) hint = fmt::format("plugin = \"{}\"; there are {}{}", there[0], join(there, ", "), more ? ", ... (sluice plugins lists all)" : "");
    if (const Member* type = find(table.keys, "type")) hint = "the key that names a plugin is `plugin`, not `type`" + (as_text(type->value) ? "; " + hint : "");
    problems_.add(table.place, fmt::format("{} names no plugin", table.path), hint);
  }

  const abi::Manifest* known_plugin(const PluginTable& table, const Member& named, const std::vector<abi::Kind>& kinds) {
    const std::string& name = *as_text(named.value);
    const abi::Manifest* manifest = catalogue_.manifest(name);
    if (!manifest) {
      if (const std::string refusal = catalogue_.refusal(name); !refusal.empty()) {
        problems_.add(named.value.place, fmt::format("the plugin {} is refused: {}", in_quotes(name), refusal), {}, Code::plugin);
        return nullptr;
      }
      std::string hint = foreign_plugin_hint(name);
      if (hint.empty() && !problems_.many()) {
        std::vector<std::string> all;
        for (const auto kind : kinds)
          for (auto& other : catalogue_.names(kind)) all.push_back(std::move(other));
        hint = did_you_mean(nearest(name, all));
        if (hint.empty()) hint = did_you_mean(nearest(name, catalogue_.names()));
        const auto searched = catalogue_.searched();
        hint += fmt::format("{}searched: {}", hint.empty() ? "" : "\n        ", searched.empty() ? "nowhere" : join(searched, ", "));
        for (const auto& refused : catalogue_.refusals()) hint += fmt::format("\n        refused there: {}", refused);
        if (name.find('/') != std::string::npos || name.ends_with(".so"))
          hint = "a plugin is named by its name, e.g. augment.hflip; its folder or file goes into [plugins] path = [...]";
      }
      problems_.add(named.value.place, fmt::format("there is no plugin {}", in_quotes(name)), hint);
      return nullptr;
    }
    const auto kind = static_cast<abi::Kind>(manifest->kind);
    if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) {
      std::string where;
      switch (kind) {
        case abi::Kind::source: where = "[data]"; break;
        case abi::Kind::frames:
        case abi::Kind::decoder:
        case abi::Kind::stage: where = "[[stage]]"; break;
        case abi::Kind::metric: where = "[[metric]]"; break;
        case abi::Kind::backbone:
        case abi::Kind::head: where = fmt::format("{0} = {{ plugin = \"{1}\" }} in [model]", name_of(kind), name); break;
        default: where = fmt::format("[{}]", name_of(kind)); break;
      }
      problems_.add(named.value.place, fmt::format("{} is {}, but {} needs {}", name, with_article(std::string(name_of(kind))), table.path, with_article(kinds_text(kinds))),
                    fmt::format("it belongs into {}", where));
      return nullptr;
    }
    return manifest;
  }

  void read_keys(const PluginTable& table, const abi::Manifest& manifest, const Member& named, Table& settings) {
    std::vector<std::string> known;
    for (std::uint32_t i = 0; i < manifest.field_count; ++i) known.emplace_back(manifest.fields[i].name);
    for (const Member& member : table.keys) {
      if (member.key == "plugin") continue;
      const auto at = std::find(known.begin(), known.end(), member.key);
      if (at == known.end()) {
        unknown_key(table, manifest, named, member, known);
        continue;
      }
      const abi::FieldRecord& field = manifest.fields[at - known.begin()];
      if (auto value = checked(table.path + "." + member.key, field, member.value)) settings.push_back({member.key, member.place, std::move(*value)});
    }
    for (std::uint32_t i = 0; i < manifest.field_count; ++i) {
      const abi::FieldRecord& field = manifest.fields[i];
      if ((field.flags & abi::field_required) && !find(table.keys, field.name))
        problems_.add(named.value.place, fmt::format("{} needs the key {}: {}", manifest.name, field.name, field.help), fmt::format("{} = ... ({})", field.name, type_text(field)));
    }
  }

  void unknown_key(const PluginTable& table, const abi::Manifest& manifest, const Member& named, const Member& member, const std::vector<std::string>& known) {
    if (member.place.layer < named.value.place.layer) {
      notices_.push_back(fmt::format("{}.{} = {} ({}) is left out: {} has no such key", table.path, member.key, shown(member.value), member.place.text(), manifest.name));
      return;
    }
    std::string hint;
    if (!problems_.many()) {
      auto all = known;
      all.insert(all.end(), table.host_keys.begin(), table.host_keys.end());
      hint = did_you_mean(nearest(member.key, all));
      if (hint.empty()) hint = foreign_key_hint(member.key, &member.value);
      if (hint.empty()) hint = all.empty() ? "it has no keys" : "there are: " + join(all, ", ");
    }
    problems_.add(member.place, fmt::format("{} has no key {}", manifest.name, in_quotes(member.key)), hint);
  }

  void wrong(const std::string& path, const abi::FieldRecord& field, const Value& value, const std::string& why, std::string hint = {}) {
    if (hint.empty()) hint = fmt::format("{}: {}", field.name, field.help);
    problems_.add(value.place, fmt::format("{} {}", path, why), std::move(hint));
  }

  std::optional<Value> checked(const std::string& path, const abi::FieldRecord& field, const Value& value) {
    switch (static_cast<FieldType>(field.type)) {
      case FieldType::boolean:
        if (std::holds_alternative<bool>(value.data)) return value;
        wrong(path, field, value, fmt::format("must be true or false, not {}", described(value)));
        return std::nullopt;
      case FieldType::integer:
      case FieldType::real: return number(path, field, value, static_cast<FieldType>(field.type));
      case FieldType::text: return text(path, field, value);
      case FieldType::integers: return list(path, field, value, FieldType::integer);
      case FieldType::reals: return list(path, field, value, FieldType::real);
      case FieldType::texts: return list(path, field, value, FieldType::text);
      case FieldType::map: return map(path, field, value);
      case FieldType::part: return part(path, field, value);
    }
    wrong(path, field, value, "has a type that this sluice does not know");
    return std::nullopt;
  }

  std::optional<Value> number(const std::string& path, const abi::FieldRecord& field, const Value& value, FieldType type) {
    const std::string range = range_text(field);
    const std::string wanted = std::string(type == FieldType::integer ? "a whole number" : "a number") + (range.empty() ? "" : ", " + range);
    Value out = value;
    double real = 0;
    if (const auto* whole = std::get_if<std::int64_t>(&value.data)) {
      real = static_cast<double>(*whole);
      if (type == FieldType::real) out.data = real;
    } else if (const auto* given = std::get_if<double>(&value.data)) {
      real = *given;
      if (!std::isfinite(real)) {
        wrong(path, field, value, fmt::format("must be {}; {} is none", wanted, std::isnan(real) ? "NaN" : "infinity"));
        return std::nullopt;
      }
      if (type == FieldType::integer) {
        const std::string rounded = real == std::floor(real) && std::abs(real) < 1e15 ? fmt::format("write {}", static_cast<std::int64_t>(real)) : "";
        wrong(path, field, value, fmt::format("must be {}, not {}", wanted, shown(value)), rounded);
        return std::nullopt;
      }
    } else {
      wrong(path, field, value, fmt::format("must be {}, not {}", wanted, described(value)));
      return std::nullopt;
    }
    if (!in_range(field, real)) {
      wrong(path, field, value, fmt::format("must be {}, not {}", range, shown(value)));
      return std::nullopt;
    }
    return out;
  }

  std::optional<Value> text(const std::string& path, const abi::FieldRecord& field, const Value& value) {
    Value out = value;
    if (on_command_line(value.place) && !as_list(value) && !as_table(value) && !as_text(value)) out.data = toml_text(value);  // unquoted there
    const std::string* given = as_text(out);
    if (!given) {
      wrong(path, field, value, fmt::format("must be text, not {}", described(value)), quoting_hint(value));
      return std::nullopt;
    }
    if (given->find('\0') != std::string::npos) {
      wrong(path, field, value, "holds a zero byte");
      return std::nullopt;
    }
    if (field.choices[0] != 0) {
      const auto choices = split(field.choices, '|');
      if (std::find(choices.begin(), choices.end(), *given) == choices.end()) {
        std::string hint = did_you_mean(nearest(*given, choices, 1));
        wrong(path, field, value, fmt::format("must be one of {}, not {}", join(choices, ", "), in_quotes(*given)), hint);
        return std::nullopt;
      }
    }
    if ((field.flags & abi::field_path) && !given->empty()) out.data = (folder_of(value.place) / *given).lexically_normal().string();
    return out;
  }

  std::optional<Value> list(const std::string& path, const abi::FieldRecord& field, const Value& value, FieldType of) {
    const List* items = as_list(value);
    if (!items) {
      const std::string hint = as_table(value) ? std::string() : fmt::format("write [{}]", shown(value));
      wrong(path, field, value, fmt::format("must be {}, not {}", type_text(field), described(value)), hint);
      return std::nullopt;
    }
    List out;
    bool right = true;
    for (std::size_t i = 0; i < items->size(); ++i) {
      const std::string item_path = fmt::format("{}[{}]", path, i);
      auto item = of == FieldType::text ? text(item_path, field, (*items)[i]) : number(item_path, field, (*items)[i], of);
      if (item) out.push_back(std::move(*item));
      else right = false;
    }
    if (!right) return std::nullopt;
    return Value{std::move(out), value.place};
  }

  std::optional<Value> map(const std::string& path, const abi::FieldRecord& field, const Value& value) {
    const Table* table = as_table(value);
    if (!table) {
      wrong(path, field, value, fmt::format("must be a table of texts, not {}", described(value)), fmt::format("{} = {{ left = \"right\" }}", field.name));
      return std::nullopt;
    }
    Table out;
    for (const Member& member : *table) {
      auto item = text(path + "." + member.key, field, member.value);
      if (!item) return std::nullopt;
      out.push_back({member.key, member.place, std::move(*item)});
    }
    return Value{std::move(out), value.place};
  }

  std::optional<Value> part(const std::string& path, const abi::FieldRecord& field, const Value& value) {
    std::vector<abi::Kind> kinds;
    for (std::uint32_t kind = first_kind; kind <= last_kind; ++kind)
      if (name_of(static_cast<abi::Kind>(kind)) == field.text) kinds.push_back(static_cast<abi::Kind>(kind));
    PluginTable table{path, value.place, {}};
    if (const Table* keys = as_table(value)) {
      table.keys = *keys;
    } else if (as_text(value)) {
      table.keys.push_back({"plugin", value.place, value});  // short for { plugin = "..." }
    } else {
      wrong(path, field, value, fmt::format("must be a table that names a {}, not {}", field.text, described(value)), fmt::format("{} = {{ plugin = \"...\" }}", field.name));
      return std::nullopt;
    }
    PluginConfig nested = read(table, kinds);
    Table out{{"plugin", nested.place, {nested.plugin, nested.place}}};
    for (Member& member : nested.settings) out.push_back(std::move(member));
    return Value{std::move(out), value.place};
  }

  const Catalogue& catalogue_;
  Problems& problems_;
  std::vector<std::string>& notices_;
};

}  // namespace

PluginConfig read_plugin(const PluginTable& table, const std::vector<abi::Kind>& kinds, const Catalogue& catalogue, Problems& problems,
                         std::vector<std::string>& notices) {
  return Checker(catalogue, problems, notices).read(table, kinds);
}

std::optional<Value> default_of(const abi::FieldRecord& field) {
  if (field.flags & (abi::field_required | abi::field_optional)) return std::nullopt;
  const Place place{"default"};
  switch (static_cast<FieldType>(field.type)) {
    case FieldType::boolean: return Value{field.integer != 0, place};
    case FieldType::integer: return Value{field.integer, place};
    case FieldType::real: return Value{field.real, place};
    case FieldType::text: return Value{std::string(field.text), place};
    case FieldType::integers:
    case FieldType::reals:
    case FieldType::texts: return parse_toml_value(field.text, place);
    case FieldType::map: return Value{Table{}, place};
    case FieldType::part: return std::nullopt;
  }
  return std::nullopt;
}

std::string type_text(const abi::FieldRecord& field) {
  const std::string range = range_text(field);
  const auto ranged = [&](std::string type) { return range.empty() ? type : type + ", " + range; };
  const std::string choices = field.choices[0] ? "one of " + join(split(field.choices, '|'), ", ") : "";
  switch (static_cast<FieldType>(field.type)) {
    case FieldType::boolean: return "true or false";
    case FieldType::integer: return ranged("whole number");
    case FieldType::real: return ranged("number");
    case FieldType::text: return !choices.empty() ? choices : (field.flags & abi::field_path) ? "path" : "text";
    case FieldType::integers: return ranged("list of whole numbers");
    case FieldType::reals: return ranged("list of numbers");
    case FieldType::texts: return !choices.empty() ? "list, each " + choices : (field.flags & abi::field_path) ? "list of paths" : "list of texts";
    case FieldType::map: return "table of texts";
    case FieldType::part: return fmt::format("{} plugin", field.text);
  }
  return "unknown";
}

}  // namespace sluice
