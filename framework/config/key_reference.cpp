// The reference page of all keys, from their declaration.
#include <fmt/format.h>

#include "framework/base/bytes.hpp"
#include "framework/base/strings.hpp"
#include "framework/config/keys.hpp"
#include "framework/config/load.hpp"

namespace sluice {
namespace {

class Page final : public KeyVisitor {
 public:
  [[nodiscard]] std::string text() const { return join(sections_, ""); }

  bool begin(std::string_view name, std::string_view help, Presence, bool) override {
    path_.emplace_back(name);
    heading(fmt::format("[{}]", join(path_, ".")), help);
    return true;
  }
  void end() override {
    path_.pop_back();
    open_.pop_back();
  }
  std::size_t items(std::string_view name, std::string_view help, std::size_t) override {
    item_ = std::string(name);
    heading(fmt::format("[[{}]]", name), help);
    return 1;
  }
  void begin_item(std::size_t) override { path_.push_back(item_); }
  void plugin(PluginConfig&, const std::vector<abi::Kind>& kinds) override {
    std::vector<std::string> names;
    for (const auto kind : kinds) names.emplace_back(name_of(kind));
    row("plugin", join(names, ", ") + " plugin", "", "with all keys of that plugin: `sluice inspect NAME`");
  }
  void key(std::string_view name, Placed<bool>& value, std::string_view help) override { row(name, "true or false", value.value ? "true" : "false", help); }
  void key(std::string_view name, Placed<std::int64_t>& value, std::string_view help, WholeRule rule) override {
    const std::string range = rule.max >= (std::int64_t{1} << 53) ? fmt::format("whole number, at least {}", rule.min) : fmt::format("whole number, {} to {}", rule.min, rule.max);
    const bool word = !rule.zero.empty();
    row(name, range + (word ? fmt::format(", or \"{}\"", rule.zero) : ""), value.value == 0 && word ? fmt::format("\"{}\"", rule.zero) : value.value < rule.min ? "" : std::to_string(value.value), help);
  }
  void key(std::string_view name, Placed<double>& value, std::string_view help, RealRule rule) override { row(name, number(rule), fmt::format("{}", value.value), help); }
  void key(std::string_view name, Placed<std::uint64_t>&, std::string_view help, BytesRule rule) override {
    row(name, fmt::format("size like \"1536MiB\", at least {}, or \"{}\"", format_bytes(rule.min), rule.zero), fmt::format("\"{}\"", rule.zero), help);
  }
  void key(std::string_view name, Placed<std::string>& value, std::string_view help, TextRule rule) override {
    row(name, text_type(rule), value.value.empty() ? "" : fmt::format("\"{}\"", value.value), help);
  }
  void key(std::string_view name, Placed<Precision>&, std::string_view help) override { row(name, "one of fp32, bf16, fp16", "\"fp32\"", help); }
  void key(std::string_view name, Placed<std::filesystem::path>&, std::string_view help) override { row(name, "path", "", help); }
  void key(std::string_view name, std::optional<Placed<std::filesystem::path>>&, std::string_view help) override { row(name, "path", "", help); }
  void key(std::string_view name, std::vector<std::string>& value, std::string_view help) override {
    row(name, "text or list of texts", value.empty() ? "" : fmt::format("[\"{}\"]", join(value, "\", \"")), help);
  }
  void key(std::string_view name, std::vector<double>&, std::string_view help, RealRule rule) override { row(name, "list, each a " + number(rule), "", help); }
  void key(std::string_view name, std::vector<std::filesystem::path>&, std::string_view help) override { row(name, "path or list of paths", "[]", help); }
  void key(std::string_view name, std::string& value, std::string_view help, TextRule rule) override {
    row(name, text_type(rule), value.empty() ? "" : fmt::format("\"{}\"", value), help);
  }
  void key(std::string_view name, bool& value, std::string_view help) override { row(name, "true or false", value ? "true" : "false", help); }
  void key(std::string_view name, BatchNormConfig&, std::string_view help) override { row(name, "text or table", "\"batch\"", help); }
  void key(std::string_view name, SegmentChoice&, std::string_view help) override { row(name, "auto, true, false or names", "\"auto\"", help); }
  void free_keys(std::map<std::string, std::string>&, std::string_view help) override { row("NAME", "text", "", help); }

 private:
  static std::string number(const RealRule& rule) {
    if (rule.max >= 1e29) return fmt::format("number, {} {}", rule.open_min ? "above" : "at least", rule.min);
    return fmt::format("number, {}{} to {}", rule.open_min ? "above " : "", rule.min, rule.max);
  }
  static std::string text_type(const TextRule& rule) {
    return rule.choices.empty() ? std::string(rule.what) : "one of " + join(split(rule.choices, '|'), ", ");
  }
  void heading(const std::string& name, std::string_view help) {
    open_.push_back(sections_.size());
    sections_.push_back(fmt::format("\n## {}\n\n{}\n\n| key | type and range | default | meaning |\n|---|---|---|---|\n", name, help));
  }
  void row(std::string_view name, std::string_view type, std::string_view fallback, std::string_view help) {
    const std::string shown = fallback.empty() ? "" : fmt::format("`{}`", fallback);
    sections_[open_.back()] += fmt::format("| `{}` | {} | {} | {} |\n", name, type, shown, help);
  }

  std::vector<std::string> sections_;
  std::vector<std::size_t> open_;  // the section of the table that is being visited, below those around it: its keys may go on behind a nested one
  std::string item_;
  std::vector<std::string> path_;
};

}  // namespace

std::string key_reference() {
  Pipeline pipeline;
  Page page;
  visit_pipeline(page, pipeline);
  return "# Keys of a pipeline\n\nMade by `sluice inspect --keys`; the keys of a plugin are shown by `sluice inspect NAME`.\n"
         "`extends = \"base.toml\"` (or a list of files), at the top of a file, puts the file on others: tables merge key by key, lists and\n"
         "[[stage]], [[metric]] are replaced whole. Relative paths start at the file that names them.\n" + page.text();
}

}  // namespace sluice
