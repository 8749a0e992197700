// FILE, --with OVERLAY and KEY=VALUE... of a verb.
#include "framework/app/verbs.hpp"

namespace sluice::app {

void add_pipeline_arguments(CLI::App& verb, PipelineArguments& arguments) {
  verb.add_option("file", arguments.file, "the pipeline, a TOML file")->required()->check(not_empty())->type_name("FILE");
  add_with(verb, arguments.with);
  verb.add_option("overrides", arguments.overrides, "keys to set, e.g. batch.size=8 model.backbone.plugin=backbone.slow_r50 stage.hflip.p=0.3")->type_name("KEY=VALUE");
}

void add_with(CLI::App& verb, std::vector<std::filesystem::path>& with) {
  verb.add_option("--with", with, "a TOML file on top of FILE, below KEY=VALUE, e.g. a preset of pipelines/presets; may be given several times, the last wins")->check(not_empty())->allow_extra_args(false)->type_name("OVERLAY");
}

CLI::Validator not_empty() {
  return {[](const std::string& word) { return word.empty() ? std::string("an empty name") : std::string(); }, ""};
}

}  // namespace sluice::app
