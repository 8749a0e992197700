// plan: how a pipeline would train inside its budget, why so, and what another budget would change; with --measure, what each switch does.
#include <algorithm>
#include <cstdio>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "framework/base/bytes.hpp"
#include "framework/base/strings.hpp"
#include "framework/train/capped_allocator.hpp"
#include "framework/train/evaluation_run.hpp"
#include "framework/train/measured_switches.hpp"
#include "framework/train/session.hpp"

namespace sluice {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const TrainingPlan& plan, const Session& session) {
  Json json{{"microbatch", plan.microbatch}, {"eval_microbatch", plan.eval_microbatch}, {"checkpoint", Json::array()}};
  if (plan.chunk > 0) json["chunk"] = plan.chunk;
  if (plan.segments.twice.all && session.planned.model) json["checkpoint"] = session.planned.model->segments();
  else if (plan.segments.twice.all) json["checkpoint"] = true;
  else json["checkpoint"] = plan.segments.twice.names;
  if (plan.segments.offload.all) json["offload"] = true;
  else json["offload"] = plan.segments.offload.names;
  return json;
}

// That of the least budget, which may have room for a better one than the smallest: margins, and the start of the process, are no plan's.
const TrainingPlan& plan_of_least(const Session& session) {
  const Planned& planned = session.planned;
  const auto fits = std::find_if(planned.steps.begin(), planned.steps.end(), [&](const PlanStep& step) { return step.host_ram <= session.budget.smallest; });
  return fits == planned.steps.end() || session.device_memory() > 0 ? planned.smallest : fits->plan;
}

// Neighbours closer than one of so many parts of the whole range say little: a network of many segments has thousands of plans. The last,
// and each microbatch with every activation where it is, stay. `bytes`: the budget that is looked at.
std::vector<const PlanStep*> apart(const std::vector<PlanStep>& steps, std::uint64_t parts, std::uint64_t PlanStep::*bytes) {
  std::vector<const PlanStep*> out;
  if (steps.empty()) return out;
  const std::uint64_t least = (steps.front().*bytes - steps.back().*bytes) / parts;
  for (const auto& step : steps)
    if (out.empty() || &step == &steps.back() || !step.plan.segments.any() || step.*bytes + least <= out.back()->*bytes) out.push_back(&step);
  return out;
}

std::uint64_t PlanStep::*looked_at(const Session& session) { return session.device_memory() > 0 ? &PlanStep::tensors : &PlanStep::host_ram; }

Json json_of(const Session& session) {
  const Planned& planned = session.planned;
  Json json{{"plan", to_json(planned.plan, session)}, {"why", planned.why}, {"host_ram", session.budget.host_ram}, {"smallest_host_ram", session.budget.smallest}};
  json["smallest_device_memory"] = session.smallest_device_memory();
  json["precision"] = name_of(session.arithmetic.precision);
  json["workers"] = session.workers;
  json["compute_threads"] = session.pipeline.budget.compute_threads.value;
  json["batches_in_flight"] = session.batches_in_flight();
  json["smallest_plan"] = to_json(plan_of_least(session), session);
  json["accounts"] = {{"base", planned.needs.base},           {"runtime", planned.needs.runtime},     {"parameters", planned.needs.parameters},   {"gradients", planned.needs.gradients},
                      {"optimizer", planned.needs.optimizer}, {"activations", planned.needs.activations}, {"offload", planned.needs.offload}, {"decoders", session.budget.split.decoders}, {"samples", session.budget.split.samples}, {"batches", session.budget.split.batches}, {"reuse", session.budget.reuse}, {"reserve", session.budget.reserve}, {"unused", session.budget.unused}};
  json["layout"] = wants_channels_last(session.pipeline) ? "channels_last" : "contiguous";
  json["probing"] = {{"passes", planned.probe_passes}, {"steps", planned.probe_steps}};
  json["checkpoint_buffer"] = session.budget.checkpoint;
  json["segments"] = Json::array();
  if (planned.model)
    for (const auto& name : planned.model->segments())
      json["segments"].push_back({{"name", name}, {"kept", planned.model->kept_by(name, planned.plan.microbatch)}, {"again", planned.plan.segments.twice.contains(name, true)}, {"offloaded", planned.plan.segments.offload.contains(name, true)}});
  json["steps"] = Json::array();
  for (const PlanStep* step : apart(planned.steps, 100, looked_at(session))) {
    Json row = to_json(step->plan, session);
    row["host_ram"] = step->host_ram;
    row["device_memory"] = step->tensors;
    row["again"] = step->again;
    row["moved"] = step->moved;
    json["steps"].push_back(std::move(row));
  }
  return json;
}

void print_segments(const Session& session) {
  const Planned& planned = session.planned;
  if (!planned.model) return;
  const auto names = planned.model->segments();
  if (!planned.names_segments()) {
    const auto most_saved = [&](std::uint64_t blocks) { return planned.needs.activations / blocks * (blocks - 1); };
    fmt::print("segments: the model names none, so it is one{}, and its {} of activations cannot be computed twice piece by piece.\n"
               "  Naming its blocks would allow it: x = pass.segment(\"block1\", ..., x), or sluice::forward(sequential, \"layers\", x, pass); docs/plugins.md\n"
               "  What it would save: of 4 blocks of like size at most {}, of 8 at most {}, for one of them is there at a time; less where one is larger, as the first\n"
               "  often is, and nothing where that one alone makes the peak; and a step takes up to a third longer\n",
               planned.plan.segments.offload.any() ? " (offloaded)" : "", format_bytes(planned.needs.activations), format_bytes(most_saved(4)), format_bytes(most_saved(8)));
    return;
  }
  fmt::print("what the segments keep for the backward pass, {}\n", counted(static_cast<std::uint64_t>(planned.plan.microbatch), "clip"));
  for (const auto& name : names) {
    const bool moved = planned.plan.segments.offload.contains(name, true), again = planned.plan.segments.twice.contains(name, true);
    fmt::print("  {:<12} {:>10}{}\n", name, format_bytes(planned.model->kept_by(name, planned.plan.microbatch)), moved ? "   offloaded" : again ? "   computed twice instead" : "");
  }
}

void print_steps(const Session& session) {
  const Planned& planned = session.planned;
  if (planned.steps.size() < 2) return;
  const bool of_device = session.device_memory() > 0;
  fmt::print("what another budget would change (predicted; the plan of this one is marked *)\n");
  fmt::print("  {:>13}   {:>10}   {}\n", of_device ? "device_memory" : "host_ram", "microbatch", of_device ? "computed twice, offloaded" : "computed twice");
  for (const PlanStep* step : apart(planned.steps, 10, looked_at(session))) {
    const auto part = [](double share, const Segments& segments) {
      return segments.any() ? fmt::format("{:.0f} % of what is kept: {}", 100 * share, text_of(segments)) : std::string("nothing");
    };
    const std::string moved = of_device ? "; offloaded " + part(step->moved, step->plan.segments.offload) : "";
    fmt::print("{} {:>13}   {:>10}   {}{}\n", step->plan.microbatch == planned.plan.microbatch && step->plan.segments == planned.plan.segments ? "*" : " ",
               bytes_to_write(of_device ? step->tensors : step->host_ram), step->plan.microbatch, part(step->again, step->plan.segments.twice), moved);
  }
}

void print_text(const Session& session) {
  const Planned& planned = session.planned;
  fmt::print("the plan: {}\n", planned.why);
  fmt::print("  {:<14} {} of {} at a time\n", "training", planned.plan.microbatch, counted(static_cast<std::uint64_t>(session.pipeline.batch.size.value), "clip"));
  if (planned.plan.chunk > 0) fmt::print("  {:<14} {} at a time, {} more on each side\n", "frames", planned.plan.chunk, session.chunking.halo);
  const bool nothing_to_compute = planned.plan.segments.twice.all && !planned.names_segments();
  fmt::print("  {:<14} {}\n", "computed twice", nothing_to_compute ? "nothing, for the model names no segments" : text_of(planned.plan.segments.twice));
  if (planned.plan.segments.offload.any()) fmt::print("  {:<14} {}\n", "offloaded", text_of(planned.plan.segments.offload));
  if (session.eval_assembler) fmt::print("  {:<14} {} at a time\n", "evaluation", counted(static_cast<std::uint64_t>(planned.plan.eval_microbatch), "clip"));
  fmt::print("  {:<14} {}, batches in flight: {}\n", "data", counted(static_cast<std::uint64_t>(session.workers), "worker"), session.batches_in_flight());
  fmt::print("  {:<14} {}\n", "layout", wants_channels_last(session.pipeline) ? "channels_last" : "contiguous");
  if (planned.probe_passes > 0) fmt::print("  {:<14} in {} pass{}, the work of {:.1f} steps; kept for later starts\n", "measured", planned.probe_passes, planned.probe_passes == 1 ? "" : "es", planned.probe_steps);
  else fmt::print("  {:<14} at an earlier start\n", "measured");
  fmt::print("host memory by account\n{}", session.budget.table);
  if (!session.device.is_cpu())
    fmt::print("memory of {} by account\n  {:<12} {:>10}\n  {:<12} {:>10}\n  {:<12} {:>10}\n  {:<12} {:>10}\n  {:<12} {:>10}\n", session.device.str(), "parameters", format_bytes(planned.needs.parameters), "gradients",
               format_bytes(planned.needs.gradients), "optimizer", format_bytes(planned.needs.optimizer), "activations", format_bytes(planned.needs.activations), "together",
               fmt::format("{} of {}", format_bytes(planned.needs.tensors()), format_bytes(session.device_memory())));
  print_segments(session);
  print_steps(session);
  const TrainingPlan& least = plan_of_least(session);
  const std::string frames = least.chunk > 0 ? fmt::format(", {} frames at a time", least.chunk) : "";
  fmt::print("the least that works: host_ram = \"{}\" ({} bytes), {} at a time{}, computed twice: {}\n", bytes_to_write(session.budget.smallest), session.budget.smallest, least.microbatch, frames,
             text_of(least.segments.twice));
  const std::uint64_t tensors = session.smallest_device_memory();
  fmt::print("the least of its tensors, what a card has to hold: device_memory = \"{}\" ({} bytes){}, and what its driver takes beside them\n", bytes_to_write(tensors), tensors,
             session.device_memory() > 0 ? " with host_ram as it is, for what is offloaded lies there" : "");
}

std::vector<MeasuredSwitch> print_measured(const Switches& switches, const TrainRequest& request, Housekeeping& housekeeping, Reporter& reporter) {
  SwitchTable table(switches);
  fmt::print("{}", table.heading());
  std::fflush(stdout);
  auto rows = measure_switches(switches, request, housekeeping, reporter, [&](const MeasuredSwitch& row) {
    fmt::print("{}", table.line(row));
    std::fflush(stdout);
  });
  fmt::print("{}", table.footing());
  return rows;
}

}  // namespace

int run_plan(const TrainRequest& request, Housekeeping& housekeeping, Reporter& reporter) {
  std::optional<Session> session(std::in_place, request, reporter, Session::Options{.progress = [&] { housekeeping.progress(); }});
  std::optional<Switches> switches;
  if (request.measure) switches = switches_of(*session);
  Json json;
  if (request.json) json = json_of(*session);
  else print_text(*session);
  StepTimes times = session->step_times;
  session.reset();  // what it holds is room for the children
  CappedAllocator::install().trim();
  if (switches) {
    const auto rows = request.json ? measure_switches(*switches, request, housekeeping, reporter) : print_measured(*switches, request, housekeeping, reporter);
    if (request.json) json["measured"] = to_json(rows);
    if (add_times(rows, times) > 0) times.remember();
  }
  if (request.json) fmt::print("{}\n", json.dump(-1, ' ', false, Json::error_handler_t::replace));
  std::fflush(stdout);
  return 0;
}

}  // namespace sluice
