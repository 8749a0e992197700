// inspect: a plugin's parameters, a pipeline's graph, or the reference of all keys.
#include <filesystem>
#include <memory>

#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/app/inspect.hpp"
#include "framework/app/verbs.hpp"

namespace sluice::app {
namespace {

struct Options {
  std::string what;
  std::vector<std::string> overrides;
  std::vector<std::filesystem::path> with;
  std::vector<std::string> paths;
  bool json = false;
  bool keys = false;
};

int inspect(const Options& options) {
  if (options.keys) {
    fmt::print("{}", key_reference());
    return 0;
  }
  if (options.what.empty()) throw Error(Code::configuration, "inspect needs the name of a plugin or a pipeline file", "sluice plugins lists the plugins");
  if (options.what.ends_with(".toml") || std::filesystem::is_regular_file(options.what)) {
    Loaded loaded = load({options.what, options.overrides, options.with}, Purpose::data);
    inspect_pipeline(loaded, options.json);
    return 0;
  }
  if (!options.overrides.empty() || !options.with.empty()) throw Error(Code::configuration, "overrides belong to a pipeline file; a plugin has none");
  Registry registry;
  registry.add_builtin();
  for (const auto& path : options.paths) registry.add_path(path);
  inspect_plugin(registry, options.what, options.json);
  return 0;
}

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  const auto options = std::make_shared<Options>();
  auto* command = app.add_subcommand("inspect", "Show a plugin's parameters, or the graph that a pipeline becomes");
  command->add_option("what", options->what, "name of a plugin, or a pipeline file")->type_name("NAME|FILE");
  command->add_option("overrides", options->overrides, "keys of the pipeline to set")->type_name("KEY=VALUE");
  add_with(*command, options->with);
  command->add_option("--path", options->paths, "a further folder of plugins, or a plugin file")->check(not_empty())->allow_extra_args(false);
  command->add_flag("--json", options->json, "as one JSON object");
  command->add_flag("--keys", options->keys, "the reference of all keys of a pipeline, as markdown");
  command->footer("Examples: sluice inspect augment.hflip\n          sluice inspect pipelines/motion8.toml batch.size=4");
  command->callback([options, &action] { action = [options] { return inspect(*options); }; });
}

}  // namespace sluice::app
