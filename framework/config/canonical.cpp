// Writes a checked pipeline down with every default filled in.
#include <algorithm>

#include <fmt/format.h>

#include "framework/base/bytes.hpp"
#include "framework/config/keys.hpp"
#include "framework/config/load.hpp"
#include "framework/config/plugin_settings.hpp"
#include "framework/config/tables.hpp"
#include "framework/config/toml.hpp"

namespace sluice {
namespace {

const Place nowhere{"default"};

class Writer final : public KeyVisitor {
 public:
  explicit Writer(const Catalogue& catalogue) : catalogue_(catalogue) { tables_.emplace_back(); }
  [[nodiscard]] const Table& table() const { return tables_.front(); }

  bool begin(std::string_view name, std::string_view, Presence presence, bool there) override {
    if (presence == Presence::optional && !there) return false;
    open(std::string(name));
    return true;
  }
  void end() override {
    Table done = std::move(tables_.back());
    tables_.pop_back();
    const std::string name = names_.back();
    names_.pop_back();
    if (name.empty()) {  // an element of a list
      std::get<List>(tables_.back().back().value.data).push_back({std::move(done), nowhere});
    } else if (!done.empty()) {
      put(name, std::move(done));
    }
  }
  std::size_t items(std::string_view name, std::string_view, std::size_t size) override {
    if (size > 0) put(name, List{});
    return size;
  }
  void begin_item(std::size_t) override { open(""); }

  void plugin(PluginConfig& plugin, const std::vector<abi::Kind>&) override {
    if (plugin.plugin.empty()) return;
    Table all = with_defaults(plugin.plugin, plugin.settings);
    // The plugin's name is what a reader looks for first; the host's keys follow, then its own.
    auto& here = tables_.back();
    here.insert(here.begin(), std::move(all.front()));
    for (std::size_t i = 1; i < all.size(); ++i) here.push_back(std::move(all[i]));
  }

  void key(std::string_view name, Placed<bool>& value, std::string_view) override { put(name, value.value); }
  void key(std::string_view name, Placed<std::int64_t>& value, std::string_view, WholeRule rule) override {
    if (value.value == 0 && !rule.zero.empty()) put(name, std::string(rule.zero));
    else if (value.value >= rule.min) put(name, value.value);  // epochs or steps that was not given
  }
  void key(std::string_view name, Placed<double>& value, std::string_view, RealRule) override { put(name, value.value); }
  void key(std::string_view name, Placed<std::uint64_t>& value, std::string_view, BytesRule rule) override {
    if (value.value == 0) put(name, std::string(rule.zero));
    else if (value.value % MiB == 0) put(name, bytes_to_write(value.value));
    else put(name, static_cast<std::int64_t>(value.value));
  }
  void key(std::string_view name, Placed<std::string>& value, std::string_view, TextRule) override {
    if (value.given || !value.value.empty()) put(name, value.value);
  }
  void key(std::string_view name, Placed<Precision>& value, std::string_view) override {
    put(name, std::string(value.value == Precision::fp32 ? "fp32" : value.value == Precision::bf16 ? "bf16" : "fp16"));
  }
  void key(std::string_view name, Placed<std::filesystem::path>& value, std::string_view) override { put(name, value.value.string()); }
  void key(std::string_view name, std::optional<Placed<std::filesystem::path>>& value, std::string_view) override {
    if (value) put(name, value->value.string());
  }
  void key(std::string_view name, std::vector<std::string>& value, std::string_view) override { put_list(name, value); }
  void key(std::string_view name, std::vector<double>& value, std::string_view, RealRule) override {
    if (!value.empty()) put_list(name, value);
  }
  void key(std::string_view name, std::vector<std::filesystem::path>& value, std::string_view) override {
    std::vector<std::string> texts;
    for (const auto& path : value) texts.push_back(path.string());
    if (!texts.empty()) put_list(name, texts);
  }
  void key(std::string_view name, std::string& value, std::string_view, TextRule) override {
    if (!value.empty()) put(name, value);
  }
  void key(std::string_view name, bool& value, std::string_view) override { put(name, value); }
  void key(std::string_view name, BatchNormConfig& value, std::string_view) override {
    if (value.mode == BatchNormConfig::Mode::group) put(name, Table{{"group", nowhere, {value.group, nowhere}}});
    else put(name, std::string(value.mode == BatchNormConfig::Mode::batch ? "batch" : "frozen"));
  }
  void key(std::string_view name, SegmentChoice& value, std::string_view) override {
    using Mode = SegmentChoice::Mode;
    if (value.mode == Mode::named) put_list(name, value.names);
    else if (value.mode == Mode::automatic) put(name, std::string("auto"));
    else put(name, value.mode == Mode::all);
  }
  void free_keys(std::map<std::string, std::string>& values, std::string_view) override {
    for (const auto& [name, text] : values) put(name, text);
  }

 private:
  void open(std::string name) {
    tables_.emplace_back();
    names_.push_back(std::move(name));
  }
  template <class T> void put(std::string_view name, T value) { tables_.back().push_back({std::string(name), nowhere, {std::move(value), nowhere}}); }
  template <class T> void put_list(std::string_view name, const std::vector<T>& values) {
    List list;
    for (const T& value : values) list.push_back({value, nowhere});
    put(name, std::move(list));
  }

  Table with_defaults(const std::string& plugin, const Table& settings) const {
    Table out{{"plugin", nowhere, {plugin, nowhere}}};
    const abi::Manifest* manifest = catalogue_.manifest(plugin);
    if (!manifest) return out;
    for (std::uint32_t i = 0; i < manifest->field_count; ++i) {
      const abi::FieldRecord& field = manifest->fields[i];
      const Member* given = find(settings, field.name);
      if (!given) {
        if (auto value = default_of(field)) out.push_back({field.name, nowhere, std::move(*value)});
      } else if (static_cast<FieldType>(field.type) == FieldType::part) {
        const Table& nested = *as_table(given->value);
        out.push_back({field.name, nowhere, {with_defaults(*as_text(find(nested, "plugin")->value), nested), nowhere}});
      } else {
        out.push_back(*given);
      }
    }
    return out;
  }

  const Catalogue& catalogue_;
  std::vector<Table> tables_;
  std::vector<std::string> names_;
};

}  // namespace

std::string canonical_toml(const Pipeline& pipeline, const Catalogue& catalogue) {
  Pipeline copy = pipeline;  // a visitor may change what it visits; this one does not
  Writer writer(catalogue);
  visit_pipeline(writer, copy);
  return write_toml(writer.table());
}

}  // namespace sluice
