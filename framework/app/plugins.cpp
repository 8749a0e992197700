// plugins: what there is, from the manifests alone.
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <sluice/manifest.hpp>

#include "framework/app/verbs.hpp"

namespace sluice::app {
namespace {

std::string_view name_of(std::uint32_t kind) {
  static constexpr std::string_view names[] = {"?", "source", "frames", "decoder", "stage", "backbone", "head", "model", "loss", "optimizer", "schedule", "metric"};
  return kind < std::size(names) ? names[kind] : names[0];
}

struct Options {
  std::vector<std::string> paths;
  bool json = false;
};

void print_json(const Registry& registry) {
  auto list = nlohmann::json::array();
  for (const auto& found : registry.all())
    list.push_back({{"name", found.manifest->name}, {"kind", name_of(found.manifest->kind)}, {"help", found.manifest->help}, {"file", found.file.string()}});
  auto refused = nlohmann::json::array();
  for (const auto& [file, reason] : registry.refused()) refused.push_back({{"file", file.string()}, {"reason", reason}});
  fmt::print("{}\n", nlohmann::json{{"plugins", list}, {"refused", refused}}.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}

void print_table(const Registry& registry) {
  const auto all = registry.all();
  std::size_t width = 0;
  for (const auto& found : all) width = std::max(width, std::string_view(found.manifest->name).size());
  for (const auto& found : all) fmt::print("{:<{}}  {:<9}  {}\n", found.manifest->name, width, name_of(found.manifest->kind), found.manifest->help);
  for (const auto& [file, reason] : registry.refused()) fmt::print("refused: {}: {}\n", file.string(), reason);
  fmt::print("{} plugins; sluice inspect NAME shows the parameters of one\n", all.size());
}

}  // namespace

void add_plugins(CLI::App& app, Action& action) {
  const auto options = std::make_shared<Options>();
  auto* command = app.add_subcommand("plugins", "List the plugins");
  command->add_option("--path", options->paths, "further folders or files to look into")->check(not_empty());
  command->add_flag("--json", options->json, "as one JSON object");
  command->footer("Example: sluice plugins --path ~/my_plugins");
  command->callback([options, &action] {
    action = [options] {
      Registry registry;
      registry.add_builtin();
      for (const auto& path : options->paths) registry.add_path(path);
      options->json ? print_json(registry) : print_table(registry);
      return 0;
    };
  });
}

}  // namespace sluice::app
