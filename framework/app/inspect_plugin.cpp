// A plugin as its manifest declares it, and what it makes of an example clip.
#include <map>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <sluice/error.hpp>
#include <sluice/sample.hpp>

#include "framework/app/inspect.hpp"
#include "framework/app/printing.hpp"
#include "framework/base/bytes.hpp"
#include "framework/base/strings.hpp"
#include "framework/config/plugin_settings.hpp"
#include "framework/config/tables.hpp"
#include "framework/config/toml.hpp"
#include "framework/plugin/recipe.hpp"

namespace sluice::app {
namespace {

using nlohmann::json;

constexpr std::int64_t example_frames = 16, example_height = 240, example_width = 320;

struct Example {
  Info in, out;
};

// Streams by name, as the boundary wants them.
class InfoStore {
 public:
  explicit InfoStore(const Info& clip) { infos_["clip"] = clip.raw(); }
  [[nodiscard]] abi::InfoMap map() {
    static constexpr abi::Text on{"clip", 4};
    return {sizeof(abi::InfoMap), this, &get, &put, &on, 1};
  }
  [[nodiscard]] Info clip() const { return Info::from(infos_.at("clip")); }

 private:
  static int get(void* host, abi::Text name, abi::Info* info, abi::Failure* failure) {
    const auto& infos = static_cast<InfoStore*>(host)->infos_;
    const auto at = infos.find(std::string(name.data, name.size));
    if (at == infos.end()) {
      failure->code = static_cast<int>(Code::data);
      return failure->code;
    }
    *info = at->second;
    return 0;
  }
  static int put(void* host, abi::Text name, const abi::Info* info, abi::Failure*) {
    static_cast<InfoStore*>(host)->infos_[std::string(name.data, name.size)] = *info;
    return 0;
  }
  std::map<std::string, abi::Info> infos_;
};

// What the stage makes of an example; nothing where it cannot be asked: LibTorch is needed, a key is required, the clip does not suit it.
std::optional<Example> try_example(Registry& registry, const abi::Manifest& manifest) {
  const auto kind = static_cast<abi::Kind>(manifest.kind);
  if (kind != abi::Kind::stage && kind != abi::Kind::decoder) return std::nullopt;
  try {
    PluginConfig config;
    config.plugin = manifest.name;
    const Recipe recipe(registry, config);
    Example example;
    example.in = Info::video(example_frames, example_height, example_width);
    InfoStore store(example.in);
    abi::InfoMap map = store.map();
    auto failure = detail::no_failure();
    if (recipe.descriptor().stage->out(recipe.instance(), &map, &failure) != 0) return std::nullopt;
    example.out = store.clip();
    return example;
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::string default_text(const abi::FieldRecord& field) {
  if (field.flags & abi::field_required) return "required";
  if (field.flags & abi::field_optional) return "none";
  const auto value = default_of(field);
  return value ? toml_text(*value) : "none";
}

std::string streams_text(const char* joined) {
  std::string out;
  for (const auto& name : split(joined, ',')) out += (out.empty() ? "" : ", ") + (name == "*" ? std::string("those of `on`") : name);
  return out;
}

std::string how_it_runs(const abi::Manifest& manifest) {
  const auto kind = static_cast<abi::Kind>(manifest.kind);
  if (kind == abi::Kind::frames) return "at admission, on metadata";
  if (kind != abi::Kind::stage && kind != abi::Kind::decoder) return "in the trainer";
  if (manifest.flags & abi::manifest_ordered) return "one sample after the other, in order";
  return manifest.flags & abi::manifest_parallel ? "on several samples at once" : "on several samples at once, an instance for each worker";
}

// A table as it would stand in a pipeline, with all required keys and the first others.
std::string example_of_use(const abi::Manifest& manifest) {
  std::string section;
  const auto kind = static_cast<abi::Kind>(manifest.kind);
  const std::string_view name = name_of(kind);
  const bool nested = kind == abi::Kind::backbone || kind == abi::Kind::head;
  if (nested) section = fmt::format("[model.{}]", name);
  else if (kind == abi::Kind::source) section = "[data]";
  else if (kind == abi::Kind::frames || kind == abi::Kind::decoder || kind == abi::Kind::stage) section = "[[stage]]";
  else if (kind == abi::Kind::metric) section = "[[metric]]";
  else section = fmt::format("[{}]", name);
  std::string text = fmt::format("  {}\n  plugin = \"{}\"\n", section, manifest.name);
  int shown = 0;
  for (std::uint32_t i = 0; i < manifest.field_count; ++i) {
    const abi::FieldRecord& field = manifest.fields[i];
    const auto type = static_cast<FieldType>(field.type);
    if (type == FieldType::part) {
      text += fmt::format("  {} = {{ plugin = \"...\" }}\n", field.name);
    } else if (field.flags & abi::field_required) {
      text += fmt::format("  {} = {}\n", field.name, type == FieldType::text ? "\"...\"" : "...");
    } else if (const auto value = default_of(field); value && shown < 3) {
      const bool empty = toml_text(*value) == "\"\"" || toml_text(*value) == "[]" || toml_text(*value) == "{}";
      if (!empty) text += fmt::format("  {} = {}\n", field.name, toml_text(*value)), ++shown;
    }
  }
  return text;
}

void print_json(const Registry::Found& found, const std::optional<Example>& example) {
  const abi::Manifest& manifest = *found.manifest;
  json fields = json::array();
  for (std::uint32_t i = 0; i < manifest.field_count; ++i) {
    const abi::FieldRecord& field = manifest.fields[i];
    fields.push_back({{"name", field.name}, {"type", type_text(field)}, {"default", default_text(field)}, {"required", (field.flags & abi::field_required) != 0}, {"help", field.help}});
  }
  json out{{"name", manifest.name}, {"kind", name_of(static_cast<abi::Kind>(manifest.kind))}, {"help", manifest.help}, {"file", found.file.string()},
           {"sdk", manifest.sdk}, {"fingerprint", manifest.fingerprint}, {"reads", split(manifest.reads, ',')}, {"writes", split(manifest.writes, ',')},
           {"runs", how_it_runs(manifest)}, {"threads", manifest.threads}, {"fields", fields}};
  if (example) out["example"] = {{"in", shape_text(example->in)}, {"in_bytes", example->in.bytes()}, {"out", shape_text(example->out)}, {"out_bytes", example->out.bytes()}, {"scratch_bytes", example->out.scratch}};
  fmt::print("{}\n", out.dump(2, ' ', false, json::error_handler_t::replace));
}

void print_text(const Registry::Found& found, const std::optional<Example>& example) {
  const abi::Manifest& manifest = *found.manifest;
  const auto kind = static_cast<abi::Kind>(manifest.kind);
  const int width = terminal_width();
  std::vector<std::vector<std::string>> facts{{"kind", std::string(name_of(kind))}, {"runs", how_it_runs(manifest)}};
  if (kind == abi::Kind::stage || kind == abi::Kind::decoder) {
    facts.push_back({"reads", streams_text(manifest.reads)});
    facts.push_back({"writes", streams_text(manifest.writes)});
  }
  if (manifest.threads > 0) facts.push_back({"threads", fmt::format("{} of its library beside the worker", manifest.threads)});
  if (example) {
    const std::string made = example->out.shape == example->in.shape ? "as much again" : fmt::format("{}, {}", shape_text(example->out), format_bytes(example->out.bytes()));
    facts.push_back({"bytes", fmt::format("of a clip {}, {}, it makes {}{}", shape_text(example->in), format_bytes(example->in.bytes()), example->out.shape == example->in.shape ? "one of the same shape" : made,
                                          example->out.scratch > 0 ? fmt::format(", and needs {} while it works", format_bytes(example->out.scratch)) : "")});
  } else if (manifest.fingerprint[0] != 0) {
    facts.push_back({"bytes", "known when the model is built: sluice check FILE"});
  }
  facts.push_back({"file", found.file.string()});
  fmt::print("{}\n", manifest.name);
  if (manifest.help[0]) fmt::print("{}", columns({{manifest.help}}, 2, width));
  fmt::print("\n{}", columns(facts, 2, width));

  if (manifest.field_count == 0) {
    fmt::print("\nIt has no parameters.\n");
  } else {
    std::vector<std::vector<std::string>> rows{{"key", "type and range", "default", "meaning"}};
    for (std::uint32_t i = 0; i < manifest.field_count; ++i) {
      const abi::FieldRecord& field = manifest.fields[i];
      const std::string value = default_text(field);
      const bool wide = value.size() > 24;  // it would leave no room for the meaning
      rows.push_back({field.name, type_text(field), wide ? "below" : value, wide ? fmt::format("{}. Default: {}", field.help, value) : field.help});
    }
    fmt::print("\n{}", columns(rows, 2, width));
  }
  fmt::print("\nIn a pipeline:\n\n{}", example_of_use(manifest));
}

}  // namespace

void inspect_plugin(Registry& registry, const std::string& name, bool json) {
  const Registry::Found found = registry.find(name);
  if (!found.manifest) {
    if (const std::string why = registry.refusal(name); !why.empty()) throw Error(Code::plugin, fmt::format("the plugin {} is refused: {}", in_quotes(name), why));
    const auto near = registry.suggestions(name);
    throw Error(Code::configuration, fmt::format("there is no plugin {}", in_quotes(name)), near.empty() ? "sluice plugins lists all; a pipeline file ends in .toml" : "did you mean " + join(near, " or ") + "?");
  }
  const auto example = try_example(registry, *found.manifest);
  json ? print_json(found, example) : print_text(found, example);
}

}  // namespace sluice::app
