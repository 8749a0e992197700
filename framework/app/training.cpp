// train, eval, predict, check: the verbs behind libsluice_train.so, which is loaded only when the pipeline has been found valid.
#include <cstdlib>
#include <filesystem>
#include <memory>

#include <boost/dll/runtime_symbol_info.hpp>
#include <boost/dll/shared_library.hpp>

#include <sluice/error.hpp>

#include "framework/app/verbs.hpp"
#include "framework/train/entry.hpp"

namespace sluice::app {
namespace {

namespace fs = std::filesystem;
namespace dll = boost::dll;

// Beside libsluice.so: ../lib of an installation and of the build folder alike.
fs::path find_train_library() {
  const fs::path here = fs::path(dll::program_location().string()).parent_path();
  for (const auto& folder : {here / "../lib", here / "../lib64", here / "../lib/x86_64-linux-gnu", here}) {
    const auto file = folder / train_library;
    if (fs::exists(file)) return fs::canonical(file);
  }
  throw Error(Code::plugin, std::string(train_library) + " is not beside " + here.string(),
              "this sluice was built without LibTorch (SLUICE_BUILD_TRAIN=OFF), or its installation is incomplete");
}

int run(TrainRequest& request, Loaded& loaded) {
  for (const auto& [name, value] : loaded.pipeline.environment) setenv(name.c_str(), value.c_str(), 1);
  request.pipeline = &loaded.pipeline;
  request.registry = &loaded.registry;
  const auto file = find_train_library();
  boost::system::error_code failed;
  // Released, so never unloaded: LibTorch's threads and thread-locals outlive any handle.
  const auto& library = *std::make_unique<dll::shared_library>(file.string(), dll::load_mode::rtld_now | dll::load_mode::rtld_global, failed).release();
  if (failed) throw Error(Code::plugin, file.string() + " cannot be loaded: " + failed.message(), "run ./sluicew setup");
  const auto fingerprint = library.get<const char*()>(fingerprint_entry);
  loaded.registry.expect_fingerprint(fingerprint(), "./sluicew setup, or for your own plugin: cmake --build its folder");
  return library.get<int(const TrainRequest&)>(train_entry)(request);
}

// One request and one set of arguments a verb; they live as long as the program.
struct Verb {
  TrainRequest request;
  PipelineArguments arguments;
};

Action action_of(const std::shared_ptr<Verb>& verb) {
  return [verb] {
    auto loaded = load(verb->arguments);
    verb->request.overrides = verb->arguments.overrides;
    return run(verb->request, loaded);
  };
}

std::shared_ptr<Verb> make(TrainRequest::Verb kind) {
  auto verb = std::make_shared<Verb>();
  verb->request.verb = kind;
  return verb;
}

}  // namespace

void add_train(CLI::App& app, Action& action) {
  const auto verb = make(TrainRequest::Verb::train);
  auto* command = app.add_subcommand("train", "Train a model");
  verb->arguments.add_to(*command);
  command->add_flag("--resume", verb->request.resume, "go on from the newest checkpoint of the run's folder; afresh if there is none");
  command->add_flag("--force-threads", verb->request.force_threads, "resume although compute_threads differ: the result is then no longer bit-equal");
  command->add_flag("--quiet", verb->request.quiet, "warnings and the final table alone");
  command->footer("Example: sluice train pipelines/motion8.toml run.epochs=2 --resume");
  command->callback([verb, &action] { action = action_of(verb); });
}

void add_eval(CLI::App& app, Action& action) {
  const auto verb = make(TrainRequest::Verb::eval);
  auto* command = app.add_subcommand("eval", "Evaluate a checkpoint over the whole val split");
  verb->arguments.add_to(*command);
  command->add_option("--checkpoint", verb->request.checkpoint, "a step-N folder or a .safetensors file; default: the best, else the newest, of the run");
  command->add_flag("--json", verb->request.json, "metrics as one JSON object");
  command->footer("Example: sluice eval pipelines/motion8.toml --json");
  command->callback([verb, &action] { action = action_of(verb); });
}

void add_predict(CLI::App& app, Action& action) {
  const auto verb = make(TrainRequest::Verb::predict);
  auto* command = app.add_subcommand("predict", "Videos to labelled probabilities");
  verb->arguments.add_to(*command);
  command->add_option("--video", verb->request.videos, "a video; several may be given")->required()->type_name("VIDEO...");
  command->add_option("--checkpoint", verb->request.checkpoint, "a step-N folder or a .safetensors file; default: the best, else the newest, of the run");
  command->add_option("--top", verb->request.top, "labels a video")->check(CLI::PositiveNumber)->capture_default_str();
  command->add_flag("--json", verb->request.json, "one JSON object a line and video");
  command->footer("Example: sluice predict pipelines/motion8.toml --video a.mp4 b.mp4 --json");
  command->callback([verb, &action] { action = action_of(verb); });
}

void add_check(CLI::App& app, Action& action) {
  const auto verb = make(TrainRequest::Verb::check);
  auto* command = app.add_subcommand("check", "All that training does up to the first frame, and what it will weigh");
  verb->arguments.add_to(*command);
  command->add_flag("--json", verb->request.json, "the accounts as one JSON object");
  command->footer("Example: sluice check pipelines/motion8.toml budget.host_ram=512MiB");
  command->callback([verb, &action] { action = action_of(verb); });
}

}  // namespace sluice::app
