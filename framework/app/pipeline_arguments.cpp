// FILE and KEY=VALUE... of a verb.
#include "framework/app/verbs.hpp"

namespace sluice::app {

void add_pipeline_arguments(CLI::App& verb, PipelineArguments& arguments) {
  verb.add_option("file", arguments.file, "the pipeline, a TOML file")->required()->check(not_empty())->type_name("FILE");
  verb.add_option("overrides", arguments.overrides, "keys to set, e.g. batch.size=8 model.backbone.plugin=backbone.slow_r50 stage.hflip.p=0.3")->type_name("KEY=VALUE");
}

CLI::Validator not_empty() {
  return {[](const std::string& word) { return word.empty() ? std::string("an empty name") : std::string(); }, ""};
}

}  // namespace sluice::app
