// The pre-flight of a pipeline, in the order in which a run would meet what is wrong.
#include "framework/app/doctor_pipeline.hpp"

#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/app/open_data.hpp"
#include "framework/app/printing.hpp"
#include "framework/app/train_library.hpp"
#include "framework/base/bytes.hpp"
#include "framework/base/strings.hpp"
#include "framework/config/problems.hpp"
#include "framework/flow/workers.hpp"

namespace sluice::app {
namespace {

constexpr std::size_t failed_shown = 3;
// A checkpoint has more than its tensors: state, manifest, folder.
constexpr std::uint64_t beside_the_tensors = MiB;

void add_error(const char* topic, const Error& error, Findings& findings) {
  findings.problem(topic, error.where().empty() ? error.message() : error.where() + ": " + error.message(), error.hint(), static_cast<int>(error.code()));
}

void judge_data(std::int64_t train, std::int64_t val, const std::vector<std::pair<std::string, std::string>>& failed, std::int64_t left_out, Findings& findings) {
  std::string text = fmt::format("{} to train, {} to evaluate", with_commas(static_cast<std::uint64_t>(train)), with_commas(static_cast<std::uint64_t>(val)));
  if (failed.empty() && left_out == 0) return findings.ok("data", text);
  if (left_out > 0) text += fmt::format("; {} will be left out, too large for the budget or for a stage", counted(static_cast<std::uint64_t>(left_out), "sample"));
  if (!failed.empty()) text += fmt::format("; {} cannot be used", failed.size() == 1 ? std::string("1 entry") : with_commas(failed.size()) + " entries");
  for (std::size_t i = 0; i < std::min(failed.size(), failed_shown); ++i) text += "\n" + cause_text({failed[i].first, failed[i].second});
  if (failed.size() > failed_shown) text += fmt::format("\n... and {} more", with_commas(failed.size() - failed_shown));
  findings.warning("data", text, failed.empty() ? "sluice check lists them; raise budget.host_ram, or make the frames smaller" : "repair or remove them; run.max_failures says how many a run bears with");
}

// What there is to say of the data where the plan was refused.
void judge_data_alone(Loaded& loaded, Findings& findings) {
  try {
    const OpenData data = open_data(loaded.registry, loaded.pipeline);
    std::vector<std::pair<std::string, std::string>> failed;
    for (const auto& item : data.dataset->failed()) failed.emplace_back(item.where, item.why);
    judge_data(data.dataset->samples(Split::train), data.dataset->samples(Split::val), failed, 0, findings);
  } catch (const Error& error) {
    add_error("data", error, findings);
  }
}

// A plan for memory that is not there would be measured in it, and the kernel would end that: it is made for what is free.
void plan_for_what_is_free(Pipeline& pipeline, const Machine& machine) {
  if (auto& budget = pipeline.budget.host_ram.value; budget > machine.free) budget = machine.free / 10 * 9;
}

void judge_free_memory(std::uint64_t declared, const Preflight& preflight, const Machine& machine, Findings& findings) {
  if (declared <= machine.free)
    return findings.ok("memory now", fmt::format("the budget is {}, of which the plan uses {}; free now: {}", format_bytes(preflight.host_ram), format_bytes(preflight.host_ram - preflight.unused), format_bytes(machine.free)));
  const std::string close = machine.cgroup && machine.free < machine.memory.available ? "raise the cgroup's limit" : "end what holds the memory (others, above)";
  const std::string next = fmt::format("{}, or declare what is there: budget.host_ram={}", close, bytes_to_write(preflight.host_ram));
  const std::string text = fmt::format("the budget is {}, and only {} are free now", format_bytes(declared), format_bytes(machine.free));
  if (!preflight.cut) findings.warning("memory now", fmt::format("{}; the plan uses {} of them", text, format_bytes(preflight.host_ram - preflight.unused)), next);
  else findings.problem("memory now", text + ": what is planned for the budget is more than that, and the system would swap or end the run. The plan above is one for what is free", next, static_cast<int>(Code::configuration));
}

void judge_disk(const Pipeline& pipeline, const Preflight& preflight, const Machine& machine, Findings& findings) {
  // Those that are kept, the best, and one that is being written.
  const auto copies = static_cast<std::uint64_t>(pipeline.checkpoint.keep.value) + 2;
  const std::uint64_t one = preflight.checkpoint + beside_the_tensors, needed = copies * one;
  const std::string text = fmt::format("a checkpoint has {}, and up to {} lie there at once: {}; free in {}: {}", format_bytes(one), copies, format_bytes(needed), machine.runs.folder.string(), format_bytes(machine.runs.free));
  const std::string next = "free some space, keep fewer (checkpoint.keep), or choose another folder with run.dir";
  if (!machine.runs.writable) findings.problem("checkpoints", text + "; the folder cannot be written", "choose another with run.dir, or change its permissions", static_cast<int>(Code::io));
  else if (machine.runs.free < needed) findings.problem("checkpoints", text, next, static_cast<int>(Code::io));
  else if (machine.runs.free < 2 * needed) findings.warning("checkpoints", text, next);
  else findings.ok("checkpoints", text);
}

void judge_threads(const Pipeline& pipeline, const Preflight& preflight, const Machine& machine, Findings& findings) {
  const std::int64_t compute = pipeline.budget.compute_threads.value, workers = workers_of(pipeline.budget), cores = machine.processor.usable();
  const std::string text = fmt::format("{} for the network, {} for the data, {} to run them", counted(static_cast<std::uint64_t>(compute), "thread"), counted(static_cast<std::uint64_t>(workers), "thread"),
                                       counted(static_cast<std::uint64_t>(cores), "core"));
  if (preflight.device == "cpu" && compute > cores) findings.warning("threads", text, fmt::format("threads of the network wait for each other after every kernel: set budget.compute_threads={} (it is part of the result: before the first run)", cores));
  else if (workers > 2 * cores) findings.warning("threads", text, fmt::format("more workers than cores only cost memory: set budget.workers={}", cores));
  else findings.ok("threads", text);
}

void judge_device_keys(const Pipeline& pipeline, const Preflight& preflight, const Machine& machine, Findings& findings) {
  if (preflight.device != "cpu") return;
  if (pipeline.budget.device_memory.value > 0)
    findings.ok("device memory", fmt::format("budget.device_memory = {} bounds the tensors of this run on the CPU, within host_ram; what a driver takes beside them is not in it", format_bytes(pipeline.budget.device_memory.value)));
  const auto precision = pipeline.run.precision.value;
  if (precision == Precision::bf16 && !multiplies_bf16(machine.processor))
    findings.warning("precision", "bf16 on a processor without instructions for it: less memory, and slower than fp32", "leave run.precision = \"fp32\" unless the memory is what counts");
  if (precision == Precision::fp16 && !multiplies_fp16(machine.processor))
    findings.warning("precision", "fp16 on a processor without instructions for it: slower than fp32", "write run.precision = \"fp32\" or \"bf16\"");
}

}  // namespace

std::filesystem::path run_folder_of(const PipelineArguments& arguments) {
  try {
    Registry registry;
    registry.add_builtin();
    return load_pipeline(arguments.file, arguments.overrides, registry, Purpose::training, arguments.plan, arguments.with).run.dir.value;
  } catch (const Error&) {
    return "runs";
  }
}

void judge_pipeline(const PipelineArguments& arguments, bool json, const Machine& machine, Preflight& preflight, Findings& findings) {
  std::optional<Loaded> loaded;
  try {
    loaded.emplace(load(arguments));
  } catch (const PipelineError& error) {
    for (const auto& problem : error.problems()) findings.problem("configuration", problem.place.text() + ": " + problem.message, problem.hint, static_cast<int>(error.code()));
    return;
  } catch (const Error& error) {
    return add_error("configuration", error, findings);
  }
  const Pipeline& pipeline = loaded->pipeline;
  findings.ok("configuration", fmt::format("{}: every key is right", arguments.file));

  const std::uint64_t declared = pipeline.budget.host_ram.value;
  plan_for_what_is_free(loaded->pipeline, machine);
  TrainRequest request;
  request.verb = TrainRequest::Verb::doctor;
  request.json = json;
  request.preflight = &preflight;
  std::optional<Error> refused;
  try {
    run_behind(request, *loaded);
  } catch (const Error& error) {
    refused = error;
  }
  if (preflight.plan.empty()) {
    if (refused && refused->code() != Code::data) judge_data_alone(*loaded, findings);
    if (!refused) return;
    const bool too_little = declared > machine.free && refused->code() == Code::configuration;
    add_error(refused->code() == Code::data ? "data" : refused->code() == Code::plugin ? "plugins" : too_little ? "memory now" : "plan", *refused, findings);
    return;
  }
  judge_data(preflight.train, preflight.val, preflight.failed, preflight.too_large + preflight.unusable, findings);
  if (refused) add_error("data", *refused, findings);
  findings.ok("plan", fmt::format("{}; {}; the least that works: host_ram = \"{}\" ({} bytes)", preflight.plan, counted(static_cast<std::uint64_t>(preflight.steps), "step"), bytes_to_write(preflight.smallest), preflight.smallest));
  judge_free_memory(declared, preflight, machine, findings);
  judge_disk(pipeline, preflight, machine, findings);
  judge_threads(pipeline, preflight, machine, findings);
  judge_device_keys(pipeline, preflight, machine, findings);
}

}  // namespace sluice::app
