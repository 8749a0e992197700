// FILE and KEY=VALUE... of a verb, and the pipeline that they name.
#include "framework/base/log.hpp"
#include "framework/app/verbs.hpp"
#include "framework/config/load.hpp"
#include "framework/flow/feed.hpp"

namespace sluice::app {

void PipelineArguments::add_to(CLI::App& verb) {
  verb.add_option("file", file, "the pipeline, a TOML file")->required()->type_name("FILE");
  verb.add_option("overrides", overrides, "keys to set, e.g. batch.size=8 model.backbone.plugin=backbone.slow_r50")->type_name("KEY=VALUE");
}

Loaded load(const PipelineArguments& arguments) {
  Loaded loaded;
  loaded.registry.add_builtin();
  loaded.pipeline = load_pipeline(arguments.file, arguments.overrides, loaded.registry);
  for (const auto& notice : loaded.pipeline.notices) log::warning("{}", notice);
  check_streams(loaded.pipeline, loaded.registry);
  return loaded;
}

}  // namespace sluice::app
