// data show: a picture of what the network sees after every stage. data bench has a file of its own.
#include <memory>

#include <fmt/format.h>

#include "framework/app/sheet.hpp"
#include "framework/app/verbs.hpp"

namespace sluice::app {

void add_data(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("data", "Look at what the network will see, or measure how fast it comes");
  command->require_subcommand(1);
  command->footer("Example: sluice data show pipelines/motion8.toml --out sheet.png");

  add_data_bench(*command, action);

  struct Options {
    PipelineArguments arguments;
    SheetRequest request;
    std::string split = "train";
  };
  const auto options = std::make_shared<Options>();
  auto* show = command->add_subcommand("show", "Draw samples after every stage into a PNG: wrong crops, colours and speeds are seen at a glance");
  add_pipeline_arguments(*show, options->arguments);
  show->add_option("--out,-o", options->request.out, "the picture to write")->required()->type_name("FILE.png");
  show->add_option("--split", options->split, "train or val")->check(CLI::IsMember({"train", "val"}))->capture_default_str();
  show->add_option("--sample", options->request.samples, "number of a sample in its split, from 0; several may be given. Default: three spread over the split")->check(CLI::NonNegativeNumber)->allow_extra_args(false);
  show->add_option("--epoch", options->request.epoch, "whose random decisions to show")->check(CLI::NonNegativeNumber)->capture_default_str();
  show->add_option("--frames", options->request.frames, "frames of a clip to draw at most")->check(CLI::Range(1, 64))->capture_default_str();
  show->add_option("--height", options->request.height, "pixels of a frame in the picture")->check(CLI::Range(16, 1080))->capture_default_str();
  show->footer("Example: sluice data show pipelines/motion8.toml --out sheet.png --sample 0 --sample 7");
  show->callback([options, &action] {
    action = [options] {
      options->request.split = options->split == "val" ? Split::val : Split::train;
      Loaded loaded = load(options->arguments, Purpose::data);
      draw_sheet(loaded, options->request);
      return 0;
    };
  });
}

}  // namespace sluice::app
