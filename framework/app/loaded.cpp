// Loads a pipeline for a verb.
#include "framework/app/loaded.hpp"

#include "framework/base/log.hpp"
#include "framework/flow/feed.hpp"

namespace sluice::app {

Loaded load(const PipelineArguments& arguments, Purpose purpose) {
  Loaded loaded;
  loaded.registry.add_builtin();
  loaded.pipeline = load_pipeline(arguments.file, arguments.overrides, loaded.registry, purpose, arguments.plan, arguments.with);
  for (const auto& notice : loaded.pipeline.notices) log::warning("{}", notice);
  check_streams(loaded.pipeline, loaded.registry);
  return loaded;
}

}  // namespace sluice::app
