// new: writes what a person starts from, a pipeline for some videos or a stage of their own.
#include <memory>

#include "framework/app/new_pipeline.hpp"
#include "framework/app/new_stage.hpp"
#include "framework/app/verbs.hpp"

namespace sluice::app {
namespace {

void add_new_pipeline(CLI::App& parent, Action& action) {
  const auto request = std::make_shared<NewPipeline>();
  auto* command = parent.add_subcommand("pipeline", "Look at videos, and write a pipeline that trains on them");
  command->add_option("--data", request->data, "a folder for each class, such folders in train/ and val/, or a list with a line path,label for each video")->required()->type_name("PATH");
  command->add_option("--out,-o", request->out, "the pipeline to write; default: named after the data, in the working directory")->type_name("FILE.toml");
  command->add_option("--split", request->split, "share of each class to train on, where there is no train/ and val/")->capture_default_str();
  command->add_option("--split-seed", request->split_seed, "another number gives another split")->capture_default_str();
  command->add_option("--workers", request->workers, "threads that read the headers, and later decode")->check(CLI::Range(1, 4096))->capture_default_str();
  command->add_flag("--force", request->force, "replace the file if it exists");
  command->footer("Example: sluice new pipeline --data ~/videos --out videos.toml");
  command->callback([request, &action] {
    action = [request] {
      write_new_pipeline(*request);
      return 0;
    };
  });
}

void add_new_stage(CLI::App& parent, Action& action) {
  const auto request = std::make_shared<NewStage>();
  auto* command = parent.add_subcommand("stage", "Write a folder with a stage of your own that builds as it is");
  command->add_option("name", request->name, "what pipelines call it, e.g. augment.blur")->required()->type_name("KIND.NAME");
  command->add_option("--out,-o", request->out, "the folder to write; default: named after the stage")->type_name("FOLDER");
  command->footer("Example: sluice new stage augment.blur");
  command->callback([request, &action] {
    action = [request] {
      write_new_stage(*request);
      return 0;
    };
  });
}

}  // namespace

void add_new(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("new", "Write a pipeline for your videos, or a stage of your own");
  command->require_subcommand(1);
  command->footer("Examples: sluice new pipeline --data ~/videos\n          sluice new stage augment.blur");
  add_new_pipeline(*command, action);
  add_new_stage(*command, action);
}

}  // namespace sluice::app
