// Sets the fields of a plugin's struct from the pipeline file.
#include "framework/plugin/recipe.hpp"

#include <cstring>
#include <deque>
#include <utility>

#include <fmt/format.h>

#include <sluice/sample.hpp>

#include "framework/config/tables.hpp"

namespace sluice {
namespace {

abi::Text text_of(const std::string& text) { return {text.data(), text.size()}; }

// Values at the boundary point into these; they live as long as the call.
struct Arena {
  std::deque<std::vector<abi::Value>> values;
  std::deque<std::vector<abi::Text>> texts;
};

abi::Value scalar(const Value& value, FieldType type) {
  abi::Value out{};
  out.type = static_cast<std::uint32_t>(type);
  if (const auto* truth = std::get_if<bool>(&value.data)) out.integer = *truth ? 1 : 0;
  if (const auto* whole = std::get_if<std::int64_t>(&value.data)) {
    out.integer = *whole;
    out.real = static_cast<double>(*whole);
  }
  if (const auto* real = std::get_if<double>(&value.data)) out.real = *real;
  if (const auto* text = std::get_if<std::string>(&value.data)) out.text = text_of(*text);
  return out;
}

abi::Value list(const Value& value, FieldType type, FieldType of, Arena& arena) {
  abi::Value out{};
  out.type = static_cast<std::uint32_t>(type);
  auto& items = arena.values.emplace_back();
  for (const Value& item : std::get<List>(value.data)) items.push_back(scalar(item, of));
  out.count = static_cast<std::uint32_t>(items.size());
  out.items = items.data();
  return out;
}

abi::Value map(const Value& value, Arena& arena) {
  abi::Value out{};
  out.type = static_cast<std::uint32_t>(FieldType::map);
  auto& items = arena.values.emplace_back();
  auto& keys = arena.texts.emplace_back();
  for (const Member& member : std::get<Table>(value.data)) {
    keys.push_back(text_of(member.key));
    items.push_back(scalar(member.value, FieldType::text));
  }
  out.count = static_cast<std::uint32_t>(items.size());
  out.items = items.data();
  out.keys = keys.data();
  return out;
}

PluginConfig nested(const Value& value) {
  PluginConfig config;
  for (const Member& member : std::get<Table>(value.data)) {
    if (member.key == "plugin") {
      config.plugin = std::get<std::string>(member.value.data);
      config.place = member.value.place;
    } else {
      config.settings.push_back(member);
    }
  }
  return config;
}

const abi::FieldRecord* field_named(const abi::Manifest& manifest, const std::string& name) {
  for (std::uint32_t i = 0; i < manifest.field_count; ++i)
    if (name == manifest.fields[i].name) return &manifest.fields[i];
  return nullptr;
}

std::string at_place(const Place& place, const std::string& what) { return place.file.empty() ? what : place.text() + ": " + what; }

}  // namespace

void throw_failure(int status, const abi::Failure& failure, const std::string& where) {
  if (status == 0) return;
  // A plugin's report is not trusted to be a text: it ends where the array ends, and its code is one that exists.
  const auto text = [](const char* bytes, std::size_t size) {
    const auto* end = static_cast<const char*>(std::memchr(bytes, 0, size));
    return std::string(bytes, end ? static_cast<std::size_t>(end - bytes) : size);
  };
  const int code = failure.code >= static_cast<int>(Code::configuration) && failure.code <= static_cast<int>(Code::watchdog) ? failure.code : static_cast<int>(Code::plugin);
  std::string what = text(failure.what, sizeof failure.what);
  if (what.empty()) what = "the plugin failed without saying why";
  throw Error(static_cast<Code>(code), std::move(what), text(failure.hint, sizeof failure.hint), where);
}

Recipe::Recipe(Registry& registry, const PluginConfig& config) {
  try {
    descriptor_ = &registry.load(config.plugin);
  } catch (const Error& error) {
    if (config.place.file.empty()) throw;
    throw error.at(config.place.text());
  }
  auto failure = detail::no_failure();
  instance_ = descriptor_->create(&failure);
  if (!instance_) throw_failure(failure.code != 0 ? failure.code : static_cast<int>(Code::plugin), failure, at_place(config.place, config.plugin));
  try {
    for (const Member& member : config.settings) {
      const abi::FieldRecord* field = field_named(manifest(), member.key);
      if (!field) throw Error(Code::configuration, fmt::format("{} has no key {}", config.plugin, member.key), {}, member.place.text());
      Arena arena;
      abi::Value value{};
      switch (static_cast<FieldType>(field->type)) {
        case FieldType::boolean:
        case FieldType::integer:
        case FieldType::real:
        case FieldType::text: value = scalar(member.value, static_cast<FieldType>(field->type)); break;
        case FieldType::integers: value = list(member.value, FieldType::integers, FieldType::integer, arena); break;
        case FieldType::reals: value = list(member.value, FieldType::reals, FieldType::real, arena); break;
        case FieldType::texts: value = list(member.value, FieldType::texts, FieldType::text, arena); break;
        case FieldType::map: value = map(member.value, arena); break;
        case FieldType::part: {
          const Recipe& part = *parts_.emplace_back(std::make_unique<Recipe>(registry, nested(member.value)));
          value.type = static_cast<std::uint32_t>(FieldType::part);
          value.part = &part.descriptor();
          value.recipe = part.instance();
          break;
        }
      }
      failure = detail::no_failure();
      const int status = descriptor_->set(instance_, text_of(member.key), &value, &failure);
      throw_failure(status, failure, at_place(member.value.place, config.plugin + "." + member.key));
    }
    failure = detail::no_failure();
    throw_failure(descriptor_->check(instance_, &failure), failure, at_place(config.place, config.plugin));
  } catch (...) {
    descriptor_->destroy(std::exchange(instance_, nullptr));
    throw;
  }
}

Recipe::~Recipe() {
  if (instance_) descriptor_->destroy(instance_);
}

Recipe::Recipe(Recipe&& other) noexcept { *this = std::move(other); }

Recipe& Recipe::operator=(Recipe&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(instance_, other.instance_);
  std::swap(parts_, other.parts_);
  return *this;
}

}  // namespace sluice
