// The checks of the host's keys: type, range, choice, spelling.
#include "framework/config/reader.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "framework/base/bytes.hpp"
#include "framework/base/strings.hpp"
#include "framework/config/foreign_keys.hpp"
#include "framework/config/layers.hpp"
#include "framework/config/plugin_settings.hpp"
#include "framework/config/tables.hpp"
#include "framework/config/toml.hpp"

namespace sluice {
namespace {

const Table empty_table{};

std::string whole_range(const WholeRule& rule) {
  const bool open_end = rule.max >= (std::int64_t{1} << 53);
  std::string text = open_end ? fmt::format("a whole number, at least {}", rule.min) : fmt::format("a whole number from {} to {}", rule.min, rule.max);
  if (!rule.zero.empty()) text += fmt::format(", or \"{}\"", rule.zero);
  return text;
}

std::string real_range(const RealRule& rule) {
  if (rule.max >= 1e29) return fmt::format("a number, {} {}", rule.open_min ? "above" : "at least", rule.min);
  if (rule.open_min) return fmt::format("a number above {} and at most {}", rule.min, rule.max);
  return fmt::format("a number from {} to {}", rule.min, rule.max);
}

}  // namespace

Reader::Reader(const Table& root, Place file, const Catalogue& catalogue, std::set<std::string> needs, Problems& problems, std::vector<std::string>& notices)
    : catalogue_(catalogue), needs_(std::move(needs)), problems_(problems), notices_(notices) {
  levels_.push_back({"", &root, std::move(file)});
}

std::string Reader::path(std::string_view name) const {
  return levels_.back().path.empty() ? std::string(name) : levels_.back().path + "." + std::string(name);
}

const Value* Reader::take(std::string_view name) {
  levels_.back().known.emplace_back(name);
  const Member* member = find(*levels_.back().table, name);
  return member ? &member->value : nullptr;
}

void Reader::wrong(std::string_view name, const Value& value, std::string_view help, std::string why, std::string hint) {
  if (hint.empty()) hint = fmt::format("{}: {}", name, help);
  problems_.add(value.place, fmt::format("{} {}", path(name), why), std::move(hint));
}

bool Reader::begin(std::string_view name, std::string_view, Presence presence, bool) {
  const Value* value = take(name);
  const Place above = levels_.back().place;
  const std::string full = path(name);
  if (!value) {
    if (presence == Presence::optional) return false;
    levels_.push_back({full, &empty_table, above});
    return true;
  }
  const Table* table = as_table(*value);
  if (!table) {
    const bool list = as_list(*value) != nullptr;
    problems_.add(value->place, fmt::format("{} must be a table, not {}", full, type_of(*value)), list ? fmt::format("write [{}] once, not [[{}]]", full, full) : fmt::format("write [{}] on a line of its own, its keys below", full));
    if (presence == Presence::optional) return false;
    needs_.erase(full);
    table = &empty_table;
  }
  levels_.push_back({full, table, value->place});
  return true;
}

void Reader::end() {
  if (!levels_.back().takes_all) unknown_keys(levels_.back());
  levels_.pop_back();
}

std::size_t Reader::items(std::string_view name, std::string_view, std::size_t) {
  items_.clear();
  item_places_.clear();
  items_name_ = std::string(name);
  const Value* value = take(name);
  if (!value) return 0;
  const List* list = as_list(*value);
  if (!list) {
    problems_.add(value->place, fmt::format("{} must be a list of tables, not {}", name, type_of(*value)), fmt::format("write [[{}]] with two brackets, once for each", name));
    return 0;
  }
  for (const Value& item : *list) {
    if (const Table* table = as_table(item)) {
      items_.push_back(table);
      item_places_.push_back(item.place);
    } else {
      problems_.add(item.place, fmt::format("{} must be a list of tables; {} is {}", name, shown(item), type_of(item)), fmt::format("write [[{}]], once for each", name));
    }
  }
  return items_.size();
}

void Reader::begin_item(std::size_t i) { levels_.push_back({fmt::format("{}.{}", items_name_, i), items_[i], item_places_[i]}); }

void Reader::plugin(PluginConfig& plugin, const std::vector<abi::Kind>& kinds) {
  Level& level = levels_.back();
  level.takes_all = true;
  PluginTable table{level.path, level.place, {}};
  for (const Member& member : *level.table)
    if (std::find(level.known.begin(), level.known.end(), member.key) == level.known.end()) table.keys.push_back(member);
  const bool item = level.path.find('.') != std::string::npos;
  table.required = item || needs_.contains(level.path);
  table.host_keys = level.known;
  if (table.keys.empty() && !table.required) return;
  if (level.table == &empty_table && table.required) {
    std::string hint;
    for (const auto kind : kinds)
      if (const auto names = catalogue_.names(kind); !names.empty() && hint.empty()) hint = fmt::format("write [{}] and below it plugin = \"{}\"", level.path, names[0]);
    problems_.add(level.place, fmt::format("there is no section [{}]", level.path), hint);
    return;
  }
  plugin = read_plugin(table, kinds, catalogue_, problems_, notices_);
}

void Reader::unknown_keys(const Level& level) {
  for (const Member& member : *level.table) {
    if (std::find(level.known.begin(), level.known.end(), member.key) != level.known.end()) continue;
    std::string hint;
    if (!problems_.many()) {
      if (level.path.empty() && as_table(member.value)) hint = foreign_section_hint(member.key);
      if (hint.empty()) hint = foreign_key_hint(member.key, &member.value);
      if (hint.empty()) {
        const auto near = nearest(member.key, level.known, 1);
        if (!near.empty()) hint = fmt::format("did you mean {}?", near[0]);
      }
      if (hint.empty()) hint = foreign_section_hint(member.key);
      if (hint.empty()) hint = fmt::format("{}: {}", level.path.empty() ? "the sections are" : "its keys are", join(level.known, ", "));
    }
    const std::string where = level.path.empty() ? "a pipeline" : fmt::format("[{}]", level.path);
    problems_.add(member.place, fmt::format("{} has no {} {}", where, level.path.empty() && as_table(member.value) ? "section" : "key", in_quotes(member.key)), hint);
  }
}

void Reader::finish() { unknown_keys(levels_.front()); }

bool Reader::read_bool(std::string_view name, const Value& value, std::string_view help, bool& out) {
  const auto* truth = std::get_if<bool>(&value.data);
  if (!truth) {
    wrong(name, value, help, fmt::format("must be true or false, not {}", described(value)));
    return false;
  }
  out = *truth;
  return true;
}

bool Reader::read_text(std::string_view name, const Value& value, std::string_view help, const TextRule& rule, std::string& out) {
  Value text = value;
  if (on_command_line(value.place) && !as_list(value) && !as_table(value) && !as_text(value)) text.data = toml_text(value);  // unquoted there
  const std::string* given = as_text(text);
  if (!given) {
    std::string hint = foreign_key_hint(name, &value);
    if (hint.empty() && !as_list(value) && !as_table(value)) hint = fmt::format("write \"{}\"", shown(value));
    wrong(name, value, help, fmt::format("must be text, not {}", described(value)), hint);
    return false;
  }
  if (given->find('\0') != std::string::npos) {
    wrong(name, value, help, "holds a zero byte");
    return false;
  }
  if (!rule.choices.empty()) {
    const auto choices = split(rule.choices, '|');
    if (std::find(choices.begin(), choices.end(), *given) == choices.end()) {
      wrong(name, value, help, fmt::format("must be one of {}, not {}", join(choices, ", "), in_quotes(*given)));
      return false;
    }
  }
  if (rule.problem)
    if (const std::string why = rule.problem(*given); !why.empty()) {
      wrong(name, value, help, fmt::format("must not be {}: {}", in_quotes(*given), why));
      return false;
    }
  out = *given;
  return true;
}

bool Reader::read_real(std::string_view name, const Value& value, std::string_view help, const RealRule& rule, double& out) {
  double real = 0;
  if (const auto* whole = std::get_if<std::int64_t>(&value.data)) real = static_cast<double>(*whole);
  else if (const auto* given = std::get_if<double>(&value.data)) real = *given;
  else {
    wrong(name, value, help, fmt::format("must be {}, not {}", real_range(rule), described(value)));
    return false;
  }
  if (!std::isfinite(real)) {
    wrong(name, value, help, fmt::format("must be {}; {} is none", real_range(rule), std::isnan(real) ? "NaN" : "infinity"));
    return false;
  }
  if (real < rule.min || real > rule.max || (rule.open_min && real == rule.min)) {
    wrong(name, value, help, fmt::format("must be {}, not {}", real_range(rule), shown(value)));
    return false;
  }
  out = real;
  return true;
}

bool Reader::read_path(std::string_view name, const Value& value, std::string_view help, std::filesystem::path& out) {
  std::string text;
  if (!read_text(name, value, help, {}, text)) return false;
  if (text.empty()) {
    wrong(name, value, help, "is an empty path");
    return false;
  }
  out = (folder_of(value.place) / text).lexically_normal();
  return true;
}

void Reader::key(std::string_view name, Placed<bool>& value, std::string_view help) {
  const Value* given = take(name);
  if (given && read_bool(name, *given, help, value.value)) value.place = given->place, value.given = true;
}

void Reader::key(std::string_view name, Placed<std::int64_t>& value, std::string_view help, WholeRule rule) {
  const Value* given = take(name);
  if (!given) return;
  const auto accept = [&](std::int64_t number) {
    value = {number, given->place, true};
  };
  if (const std::string* text = as_text(*given); text && !rule.zero.empty() && *text == rule.zero) return accept(0);
  if (const auto* real = std::get_if<double>(&given->data)) {
    if (std::isnan(*real) || std::isinf(*real)) return wrong(name, *given, help, fmt::format("must be {}; {} is none", whole_range(rule), std::isnan(*real) ? "NaN" : "infinity"));
    const bool whole = *real == std::floor(*real) && *real >= static_cast<double>(rule.min) && *real <= static_cast<double>(rule.max) && std::abs(*real) < 1e15;
    return wrong(name, *given, help, fmt::format("must be {}, not {}", whole_range(rule), shown(*given)), whole ? fmt::format("write {}", static_cast<std::int64_t>(*real)) : "");
  }
  const auto* number = std::get_if<std::int64_t>(&given->data);
  if (!number) return wrong(name, *given, help, fmt::format("must be {}, not {}", whole_range(rule), described(*given)));
  if (*number < rule.min || *number > rule.max) return wrong(name, *given, help, fmt::format("must be {}, not {}", whole_range(rule), *number));
  accept(*number);
}

void Reader::key(std::string_view name, Placed<double>& value, std::string_view help, RealRule rule) {
  const Value* given = take(name);
  if (given && read_real(name, *given, help, rule, value.value)) value.place = given->place, value.given = true;
}

void Reader::key(std::string_view name, Placed<std::uint64_t>& value, std::string_view help, BytesRule rule) {
  const Value* given = take(name);
  if (!given) return;
  const std::string wanted = fmt::format("a size like \"1536MiB\", at least {}, or \"{}\"", format_bytes(rule.min), rule.zero);
  std::uint64_t bytes = 0;
  if (const std::string* text = as_text(*given)) {
    if (*text == rule.zero) {
      value = {0, given->place, true};
      return;
    }
    try {
      bytes = parse_bytes(*text);
    } catch (const Error& error) {
      return wrong(name, *given, help, fmt::format("must be {}: {}", wanted, error.message()), error.hint());
    }
  } else if (const auto* number = std::get_if<std::int64_t>(&given->data); number && *number >= 0) {
    bytes = static_cast<std::uint64_t>(*number);
  } else {
    return wrong(name, *given, help, fmt::format("must be {}, not {}", wanted, described(*given)));
  }
  if (bytes < rule.min) {
    const std::string hint = bytes > 0 && bytes <= 4096 ? fmt::format("a number without a unit counts bytes: \"{}GiB\"?", bytes) : "";
    return wrong(name, *given, help, fmt::format("must be {}, not {}", wanted, format_bytes(bytes)), hint);
  }
  value = {bytes, given->place, true};
}

void Reader::key(std::string_view name, Placed<std::string>& value, std::string_view help, TextRule rule) {
  const Value* given = take(name);
  if (given && read_text(name, *given, help, rule, value.value)) value.place = given->place, value.given = true;
}

void Reader::key(std::string_view name, Placed<Precision>& value, std::string_view help) {
  const Value* given = take(name);
  if (!given) return;
  const std::string* text = as_text(*given);
  if (text && (*text == "fp32" || *text == "bf16" || *text == "fp16")) {
    value = {*text == "fp32" ? Precision::fp32 : *text == "bf16" ? Precision::bf16 : Precision::fp16, given->place, true};
    return;
  }
  wrong(name, *given, help, fmt::format("must be \"fp32\", \"bf16\" or \"fp16\", not {}", shown(*given)), foreign_key_hint("precision", given));
}

void Reader::key(std::string_view name, Placed<std::filesystem::path>& value, std::string_view help) {
  const Value* given = take(name);
  if (given && read_path(name, *given, help, value.value)) value.place = given->place, value.given = true;
}

void Reader::key(std::string_view name, std::optional<Placed<std::filesystem::path>>& value, std::string_view help) {
  const Value* given = take(name);
  std::filesystem::path path;
  if (given && read_path(name, *given, help, path)) value = {path, given->place, true};
}

void Reader::key(std::string_view name, std::vector<std::string>& value, std::string_view help) {
  const Value* given = take(name);
  if (!given) return;
  std::vector<std::string> names;
  const auto add = [&](const Value& item) {
    const std::string* text = as_text(item);
    if (!text) return wrong(name, item, help, fmt::format("must be a list of names of streams; {} is no text", shown(item)));
    const bool legal = !text->empty() && text->size() <= 64 && text->find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") == std::string::npos;
    if (!legal) return wrong(name, item, help, fmt::format("must hold names of streams: {} is none", in_quotes(*text)), "a name has letters, digits, _, - and .");
    if (std::find(names.begin(), names.end(), *text) != names.end()) return wrong(name, item, help, fmt::format("names {} twice", in_quotes(*text)));
    names.push_back(*text);
  };
  if (const List* list = as_list(*given)) {
    if (list->empty()) return wrong(name, *given, help, "names no stream");
    std::for_each(list->begin(), list->end(), add);
  } else {
    add(*given);
  }
  if (!names.empty()) value = std::move(names);
}

void Reader::key(std::string_view name, std::vector<double>& value, std::string_view help, RealRule rule) {
  const Value* given = take(name);
  if (!given) return;
  const List* list = as_list(*given);
  if (!list) return wrong(name, *given, help, fmt::format("must be a list of numbers, not {}", described(*given)), as_table(*given) ? "" : fmt::format("write [{}]", shown(*given)));
  std::vector<double> numbers;
  for (const Value& item : *list) {
    double real = 0;
    if (read_real(name, item, help, rule, real)) numbers.push_back(real);
  }
  if (numbers.size() == list->size()) value = std::move(numbers);
}

void Reader::key(std::string_view name, std::vector<std::filesystem::path>& value, std::string_view help) {
  const Value* given = take(name);
  if (!given) return;
  const auto add = [&](const Value& item) {
    std::filesystem::path path;
    if (read_path(name, item, help, path)) value.push_back(path);
  };
  if (const List* list = as_list(*given)) std::for_each(list->begin(), list->end(), add);
  else add(*given);
}

void Reader::key(std::string_view name, std::string& value, std::string_view help, TextRule rule) {
  if (const Value* given = take(name)) read_text(name, *given, help, rule, value);
}

void Reader::key(std::string_view name, bool& value, std::string_view help) {
  if (const Value* given = take(name)) read_bool(name, *given, help, value);
}

void Reader::key(std::string_view name, BatchNormConfig& value, std::string_view help) {
  const Value* given = take(name);
  if (!given) return;
  if (const std::string* text = as_text(*given)) {
    if (*text == "batch") value = {BatchNormConfig::Mode::batch, 0, given->place};
    else if (*text == "frozen") value = {BatchNormConfig::Mode::frozen, 0, given->place};
    else wrong(name, *given, help, fmt::format("must be \"batch\", \"frozen\" or {{ group = N }}, not {}", in_quotes(*text)));
    return;
  }
  const Table* table = as_table(*given);
  if (!table) return wrong(name, *given, help, fmt::format("must be \"batch\", \"frozen\" or {{ group = N }}, not {}", described(*given)));
  const Member* group = find(*table, "group");
  for (const Member& member : *table)
    if (member.key != "group") problems_.add(member.place, fmt::format("{} has no key {}", path(name), in_quotes(member.key)), "write { group = N }, N clips");
  if (!group) {
    if (table->empty()) wrong(name, *given, help, "must name its group", "write { group = N }, N clips");
    return;
  }
  const auto* clips = std::get_if<std::int64_t>(&group->value.data);
  if (!clips || *clips < 1 || *clips > (1 << 20)) return wrong("batch_norm.group", group->value, help, fmt::format("must be a whole number from 1 to {}, not {}", 1 << 20, shown(group->value)));
  value = {BatchNormConfig::Mode::group, *clips, group->value.place};
}

void Reader::free_keys(std::map<std::string, std::string>& values, std::string_view help) {
  levels_.back().takes_all = true;
  for (const Member& member : *levels_.back().table) {
    const bool legal = !member.key.empty() && member.key.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == std::string::npos;
    if (!legal) {
      problems_.add(member.place, fmt::format("{} is no name of an environment variable", in_quotes(member.key)), "letters, digits and _");
      continue;
    }
    static const std::vector<std::string> of_threads{"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_THREAD_LIMIT", "OMP_DYNAMIC", "OMP_MAX_ACTIVE_LEVELS"};
    if (std::find(of_threads.begin(), of_threads.end(), member.key) != of_threads.end()) {
      problems_.add(member.place, fmt::format("{} would break the budget of threads", member.key), "write budget.compute_threads");
      continue;
    }
    if (member.key.starts_with("LD_")) {
      problems_.add(member.place, fmt::format("{} changes which libraries are loaded, and is read before sluice starts", member.key), "set it in the shell, if you must");
      continue;
    }
    // 1 and true mean "1" and "true": that is what people write there.
    const bool scalar = !as_list(member.value) && !as_table(member.value);
    std::string text = as_text(member.value) ? *as_text(member.value) : scalar ? toml_text(member.value) : "";
    if (!scalar) wrong(member.key, member.value, help, fmt::format("must be text, not {}", described(member.value)));
    else if (text.find('\0') != std::string::npos) wrong(member.key, member.value, help, "holds a zero byte");
    else values[member.key] = std::move(text);
  }
}

void Reader::key(std::string_view name, SegmentChoice& value, std::string_view help) {
  const Value* given = take(name);
  if (!given) return;
  using Mode = SegmentChoice::Mode;
  const auto refuse = [&](const Value& what) { wrong(name, what, help, fmt::format("must be \"auto\", true, false or a list of names of segments, not {}", shown(what))); };
  if (const auto* flag = std::get_if<bool>(&given->data)) {
    value = {*flag ? Mode::all : Mode::none, {}, given->place};
  } else if (const auto* text = as_text(*given)) {
    if (*text != "auto") return refuse(*given);
    value = {Mode::automatic, {}, given->place};
  } else if (const List* list = as_list(*given)) {
    SegmentChoice choice{Mode::named, {}, given->place};
    for (const Value& item : *list) {
      const auto* segment = as_text(item);
      if (!segment || segment->empty()) return refuse(item);
      choice.names.push_back(*segment);
    }
    value = std::move(choice);
  } else {
    refuse(*given);
  }
}

}  // namespace sluice
