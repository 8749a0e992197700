// eval: the val split through the model of a checkpoint, under the same budget. check: the same start, no frame.
#include "framework/train/evaluation_run.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <sluice/error.hpp>

#include "framework/base/log.hpp"
#include "framework/base/strings.hpp"
#include "framework/memory/process.hpp"
#include "framework/train/checkpointing.hpp"
#include "framework/train/lost_device.hpp"
#include "framework/train/session.hpp"
#include "framework/train/split_pass.hpp"
#include "framework/train/weights.hpp"

namespace sluice {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

int run_evaluation(const TrainRequest& request, Housekeeping& housekeeping, Reporter& reporter) {
  const Weights weights = find_weights(request.checkpoint, request.pipeline->run.dir.value);
  Session::Options options{.training = false, .starting_weights = false, .progress = [&] { housekeeping.progress(); }};
  if (weights.state) options.saved_microbatch = weights.state->microbatch, options.saved_chunk = weights.state->chunk;
  Session session(request, reporter, std::move(options));
  if (weights.state && weights.state->classes != session.dataset->classes())
    throw Error(Code::configuration, fmt::format("this checkpoint was trained on other classes: {}; the data has: {}", join(weights.state->classes, ", "), join(session.dataset->classes(), ", ")),
                "evaluate on data with those classes in that order (data.classes), or name a .safetensors file to compare by number", weights.path().string());
  std::int64_t failed = static_cast<std::int64_t>(session.dataset->failed().size()), seen = 0;
  for (const auto& item : session.dataset->failed()) log::warning("{}: {}", item.where, item.why);
  const EvalNumbers numbers = on_device([&] { return DeviceUse{session.device, "the evaluation"}; }, [&] {
    load_tensors(weights.tensors(), tensors_of(*session.model), false);
    Evaluation evaluation(*session.model, session.loss.get(), session.metrics, {session.dataset->views(Split::val), session.pipeline.eval.average.value, session.classes(), session.arithmetic});
    SplitPass pass(session, housekeeping, reporter, SplitPass::OnSignal::end_at_once);
    BatchWork work(session, {.place = [&] { return BatchWork::Place{pass.batch(), "the evaluation"}; },
                             .say = [](const std::string& line) { log::warning("{}", line); },
                             .beyond_budget = [&](const std::string& line) { reporter.beyond_budget(line); }});
    pass.run(work, evaluation, [&](const Batch& batch) {
      for (const auto& item : batch.failed) log::warning("{}: {}", item.where, item.why);
      failed += static_cast<std::int64_t>(batch.failed.size());
      seen += batch.clips();
      session.check_failures(failed);
      reporter.progress("evaluating", std::min(0.999, static_cast<double>(seen) / static_cast<double>(session.dataset->samples(Split::val))));
    });
    reporter.progress("evaluating", 1);
    return evaluation.finish();
  });
  if (request.json) {
    Json json{{"checkpoint", weights.path().string()}, {"videos", numbers.videos}, {"clips", numbers.clips}, {"failed", failed}};
    if (weights.state) json["step"] = weights.state->step;
    for (const auto& [name, value] : numbers.numbers) json["metrics"][name] = value;
    fmt::print("{}\n", dump(json));
  } else {
    fmt::print("{}: {} of {}\n", weights.path().string(), counted(static_cast<std::uint64_t>(numbers.clips), "clip"), counted(static_cast<std::uint64_t>(numbers.videos), "video"));
    for (const auto& [name, value] : numbers.numbers) fmt::print("  {:<24} {:.6g}\n", name, value);
    for (const auto& [name, table] : numbers.tables) fmt::print("{}\n{}\n", name, table);
  }
  std::fflush(stdout);
  return 0;
}

int run_check(const TrainRequest& request, Housekeeping& housekeeping, Reporter& reporter) {
  Session session(request, reporter, {.progress = [&] { housekeeping.progress(); }});
  session.check_failures(static_cast<std::int64_t>(session.dataset->failed().size()));
  for (const auto& item : session.dataset->failed()) log::warning("{}: {}", item.where, item.why);
  for (const Split split : {Split::train, Split::val}) {
    if (session.dataset->samples(split) == 0) continue;
    const std::int64_t batch = split == Split::train ? session.pipeline.batch.size.value : session.planned.plan.eval_microbatch;
    const SampleBounds bounds = sample_bounds(*session.dataset, session.stages, split, session.budget.samples, session.chunking.on() ? 1 : batch, session.chunking);
    if (bounds.too_large + bounds.unusable > 0)
      log::warning("{} of {} will not be used: {} too large for the budget, {} that a stage cannot take{}", counted(static_cast<std::uint64_t>(bounds.too_large + bounds.unusable), "sample"),
                   split == Split::train ? "train" : "val", bounds.too_large, bounds.unusable, bounds.why_unusable.empty() ? "" : ", e.g. " + bounds.why_unusable);
  }
  if (request.json) {
    Json json{{"ok", true},
              {"host_ram", session.budget.host_ram},
              {"smallest_host_ram", session.budget.smallest},
              {"samples", session.budget.samples},
              {"unused", session.budget.unused},
              {"steps", session.total_steps},
              {"microbatch", session.planned.plan.microbatch},
              {"accounts",
               {{"base", session.planned.needs.base},
                {"runtime", session.planned.needs.runtime},
                {"parameters", session.planned.needs.parameters},
                {"gradients", session.planned.needs.gradients},
                {"optimizer", session.planned.needs.optimizer},
                {"activations", session.planned.needs.activations}}}};
    fmt::print("{}\n", dump(json));
  } else {
    for (const auto& [name, text] : session.facts()) fmt::print("  {:<14} {}\n", name, text);
    fmt::print("host memory by account\n{}the pipeline is sound: {}\n", session.budget.table, counted(static_cast<std::uint64_t>(session.total_steps), "step"));
  }
  std::fflush(stdout);
  return 0;
}

}  // namespace sluice
