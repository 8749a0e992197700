// train, eval, predict, check, plan, and what they start as children: the verbs behind libsluice_train.so.
#include <algorithm>
#include <filesystem>
#include <iterator>
#include <memory>

#include "framework/app/train_library.hpp"
#include "framework/app/verbs.hpp"
#include "framework/base/child_process.hpp"

namespace sluice::app {
namespace {

namespace fs = std::filesystem;

// One request and one set of arguments a verb; they live as long as the program.
struct Verb {
  TrainRequest request;
  PipelineArguments arguments;
};

// FILE and its options, as a child is to be given them.
std::vector<std::string> words_of(const PipelineArguments& arguments) {
  std::vector<std::string> words{arguments.file};
  for (const auto& overlay : arguments.with) words.insert(words.end(), {"--with", overlay.string()});
  if (!arguments.plan.empty()) words.insert(words.end(), {"--plan", arguments.plan});
  return words;
}

Action action_of(const std::shared_ptr<Verb>& verb) {
  return [verb] {
    if (verb->request.debug) {
      // One thread of each kind; what a device is asked to do is done before the next thing is asked.
      verb->arguments.overrides.insert(verb->arguments.overrides.end(), {"budget.workers=1", "budget.compute_threads=1"});
      verb->request.force_threads = true;
      setenv("CUDA_LAUNCH_BLOCKING", "1", 1);
    }
    auto loaded = load(verb->arguments);
    verb->request.overrides = verb->arguments.overrides;
    verb->request.pipeline_words = words_of(verb->arguments);
    return run_behind(verb->request, loaded);
  };
}

std::shared_ptr<Verb> make(TrainRequest::Verb kind) {
  auto verb = std::make_shared<Verb>();
  verb->request.verb = kind;
  return verb;
}

void add_plan_option(CLI::App& verb, PipelineArguments& arguments) {
  verb.add_option("--plan", arguments.plan, "the plan.toml of a run, to train by the same plan: followed, or refused where it does not fit")->check(not_empty())->type_name("PLAN");
}

}  // namespace

void add_check_kernels(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("check-kernels", "What a training in bf16 or fp16 starts as a child: kernels from standard input, their errors to standard output");
  command->group("");  // nothing for people
  command->callback([&action] {
    action = [] {
      end_with_parent();
      return check_kernels();
    };
  });
}

void add_measure_plan(CLI::App& app, Action& action) {
  const auto verb = make(TrainRequest::Verb::measure_plan);
  verb->request.json = true;  // nothing but the result on standard output
  auto* command = app.add_subcommand("measure-plan", "What sluice plan --measure starts as a child for each switch: a few steps over zeros, their memory and time to standard output");
  command->group("");  // nothing for people
  add_pipeline_arguments(*command, verb->arguments);
  add_plan_option(*command, verb->arguments);
  command->callback([verb, &action] {
    action = [run = action_of(verb)] {
      end_with_parent();
      return run();
    };
  });
}

void add_train(CLI::App& app, Action& action) {
  const auto verb = make(TrainRequest::Verb::train);
  auto* command = app.add_subcommand("train", "Train a model");
  add_pipeline_arguments(*command, verb->arguments);
  command->add_flag("--resume", verb->request.resume, "go on from the newest checkpoint of the run's folder; afresh if there is none");
  command->add_flag("--force-threads", verb->request.force_threads, "resume although compute_threads differ: the result is then no longer bit-equal");
  command->add_flag("--debug", verb->request.debug,
                    "one thread, and every operation is looked at: indices, shapes and types before it runs, the first output that is not finite, the operation that failed, with their segments; slow");
  add_plan_option(*command, verb->arguments);
  command->add_flag("--quiet", verb->request.quiet, "warnings and the final table alone");
  command->footer("Example: sluice train pipelines/motion8.toml run.epochs=2 --resume");
  command->callback([verb, &action] { action = action_of(verb); });
}

void add_eval(CLI::App& app, Action& action) {
  const auto verb = make(TrainRequest::Verb::eval);
  auto* command = app.add_subcommand("eval", "Evaluate a checkpoint over the whole val split");
  add_pipeline_arguments(*command, verb->arguments);
  command->add_option("--checkpoint", verb->request.checkpoint, "a step-N folder or a .safetensors file; default: the best, else the newest, of the run");
  command->add_flag("--json", verb->request.json, "metrics as one JSON object");
  command->footer("Example: sluice eval pipelines/motion8.toml --json");
  command->callback([verb, &action] { action = action_of(verb); });
}

void add_predict(CLI::App& app, Action& action) {
  const auto verb = make(TrainRequest::Verb::predict);
  auto* command = app.add_subcommand("predict", "Videos to labelled probabilities");
  add_pipeline_arguments(*command, verb->arguments);
  command->add_option("--video", verb->request.videos, "a video; several may be given")->required()->check(not_empty())->type_name("VIDEO...");
  command->add_option("--checkpoint", verb->request.checkpoint, "a step-N folder or a .safetensors file; default: the best, else the newest, of the run");
  command->add_option("--top", verb->request.top, "labels a video")->check(CLI::PositiveNumber)->capture_default_str();
  command->add_flag("--json", verb->request.json, "one JSON object a line and video");
  command->footer("Example: sluice predict pipelines/motion8.toml --video a.mp4 b.mp4 --json");
  command->callback([verb, &action] {
    // KEY=VALUE after --video VIDEO is an override, where no file is called so.
    auto& videos = verb->request.videos;
    const auto is_override = [](const std::string& word) { return word.find('=') != std::string::npos && !fs::exists(word); };
    std::copy_if(videos.begin(), videos.end(), std::back_inserter(verb->arguments.overrides), is_override);
    std::erase_if(videos, is_override);
    action = action_of(verb);
  });
}

void add_plan(CLI::App& app, Action& action) {
  const auto verb = make(TrainRequest::Verb::plan);
  auto* command = app.add_subcommand("plan", "How training will fit into the budget, why so, and what another budget would change");
  add_pipeline_arguments(*command, verb->arguments);
  add_plan_option(*command, verb->arguments);
  command->add_flag("--json", verb->request.json, "plan, accounts, segments and smallest budget in bytes as one JSON object");
  command->add_flag("--measure", verb->request.measure, "then train a few steps for each switch (microbatch, checkpointing, precision, layout, threads, batch), each in a process of its own: a table of memory and time; takes minutes");
  command->footer("Example: sluice plan pipelines/motion8.toml budget.host_ram=512MiB");
  command->callback([verb, &action] { action = action_of(verb); });
}

void add_check(CLI::App& app, Action& action) {
  const auto verb = make(TrainRequest::Verb::check);
  auto* command = app.add_subcommand("check", "All that training does up to the first frame, and what it will weigh");
  add_pipeline_arguments(*command, verb->arguments);
  add_plan_option(*command, verb->arguments);
  command->add_flag("--json", verb->request.json, "the accounts as one JSON object");
  command->footer("Example: sluice check pipelines/motion8.toml budget.host_ram=512MiB");
  command->callback([verb, &action] { action = action_of(verb); });
}

}  // namespace sluice::app
