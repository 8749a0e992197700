// data bench: how fast the batches of a pipeline come, with nobody who trains on them.
#include <memory>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <sluice/error.hpp>

#include "framework/app/open_data.hpp"
#include "framework/app/printing.hpp"
#include "framework/app/verbs.hpp"
#include "framework/base/bytes.hpp"
#include "framework/base/clock.hpp"
#include "framework/base/strings.hpp"
#include "framework/flow/feed.hpp"
#include "framework/flow/workers.hpp"
#include "framework/memory/budget.hpp"
#include "framework/memory/process.hpp"

namespace sluice::app {
namespace {

struct Request {
  PipelineArguments arguments;
  std::string split = "train";
  std::uint64_t epochs = 1;
  bool json = false;
};

struct Result {
  std::uint64_t clips = 0, batches = 0, failed = 0;
  double seconds = 0, opening = 0;
  std::uint64_t samples_share = 0, samples_peak = 0, resident_peak = 0;
  std::vector<Failed> first_failed;
};

constexpr std::size_t most_shown = 10;

// As in training, but for the tensors: what is resident already, a reserve, and the rest for the samples.
Budget divide(const OpenData& data, const Pipeline& pipeline, Split split) {
  const auto size = pipeline.batch.size.value, workers = workers_of(pipeline.budget);
  const SampleBounds bounds = sample_bounds(*data.dataset, data.stages, split, no_cap, size);
  if (bounds.streams.empty()) throw Error(Code::data, "no sample can be used: " + (bounds.why_unusable.empty() ? std::string("no stream comes out") : bounds.why_unusable));
  BudgetNeeds needs;
  needs[Account::base] = resident_bytes();
  needs[Account::reserve] = reserve_bytes(workers);
  needs.smallest_samples = bounds.smallest;
  needs.useful_samples = std::max(3 * static_cast<std::uint64_t>(size) * bounds.place + static_cast<std::uint64_t>(2 * workers + 2) * bounds.largest, bounds.smallest_all);
  needs.what_samples = fmt::format("a batch of {}, {} a clip, and one of {} on its way", size, format_bytes(bounds.place), format_bytes(bounds.typical));
  const auto host_ram = pipeline.budget.host_ram.value != 0 ? pipeline.budget.host_ram.value : free_memory() / 10 * 8;
  return divide_budget(host_ram, needs, pipeline.budget.host_ram.place.text());
}

Result measure(Loaded& loaded, const Request& request) {
  const Pipeline& pipeline = loaded.pipeline;
  const Split split = request.split == "val" ? Split::val : Split::train;
  Result result;
  Stopwatch watch;
  OpenData data = open_data(loaded.registry, pipeline);
  if (data.dataset->samples(split) == 0) {
    const auto& failed = data.dataset->failed();
    throw Error(Code::data, fmt::format("the split {} is empty", request.split), failed.empty() ? "measure the other one: --split" : cause_text(failed[0]));
  }
  const Budget budget = divide(data, pipeline, split);
  result.opening = watch.seconds();
  result.samples_share = budget.samples;

  Ledger ledger(budget.samples);
  Feed::Options options;
  options.workers = workers_of(pipeline.budget);
  options.in_flight = pipeline.budget.in_flight.value;
  options.batch_size = options.eval_batch_size = pipeline.batch.size.value;
  options.drop_last = pipeline.batch.drop_last.value;
  options.seed = static_cast<std::uint64_t>(pipeline.run.seed.value);
  watch.restart();
  Feed feed(*data.dataset, data.stages, ledger, options, [&](std::uint64_t n) -> std::optional<Phase> {
    if (n >= request.epochs) return std::nullopt;
    return Phase{split == Split::train ? Phase::Kind::train : Phase::Kind::eval, split == Split::train ? n : 0, 0};
  });
  while (const std::optional<Batch> batch = feed.next()) {
    result.clips += batch->samples.size();
    result.batches += batch->samples.empty() ? 0 : 1;
    result.failed += batch->failed.size();
    for (const Failed& failed : batch->failed)
      if (result.first_failed.size() < most_shown) result.first_failed.push_back(failed);
  }
  result.seconds = watch.seconds();
  result.samples_peak = ledger.peak();
  result.resident_peak = peak_resident_bytes();
  return result;
}

int bench(const Request& request) {
  pin_malloc();
  Loaded loaded = load(request.arguments, Purpose::data);
  const Result result = measure(loaded, request);
  for (const Failed& failed : result.first_failed) fmt::print(stderr, "failed: {}\n", cause_text(failed));
  if (result.failed > result.first_failed.size()) fmt::print(stderr, "failed: {} more\n", with_commas(result.failed - result.first_failed.size()));
  const double rate = result.seconds > 0 ? static_cast<double>(result.clips) / result.seconds : 0;
  if (request.json) {
    const nlohmann::json out{{"clips", result.clips}, {"seconds", result.seconds}, {"clips_per_second", rate}, {"failed", result.failed}, {"opening_seconds", result.opening},
                             {"samples_bytes", result.samples_share}, {"samples_peak_bytes", result.samples_peak}, {"resident_peak_bytes", result.resident_peak}};
    fmt::print("{}\n", out.dump());
  } else {
    fmt::print("{} in {} batches, {}: {:.1f} clips/s with {} ({} to open)\n", counted(result.clips, "clip"), with_commas(result.batches), format_duration(result.seconds), rate,
               counted(static_cast<std::uint64_t>(workers_of(loaded.pipeline.budget)), "worker"), format_duration(result.opening));
    fmt::print("samples took {} of their {}; the process {}\n", format_bytes(result.samples_peak), format_bytes(result.samples_share), format_bytes(result.resident_peak));
  }
  if (result.clips == 0) throw Error(Code::data, "no sample could be loaded", {});
  return 0;
}

}  // namespace

void add_data_bench(CLI::App& data, Action& action) {
  const auto request = std::make_shared<Request>();
  auto* command = data.add_subcommand("bench", "Measure how fast the batches come, inside the budget and without training");
  add_pipeline_arguments(*command, request->arguments);
  command->add_option("--epochs", request->epochs, "passes over the split")->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1000000}))->capture_default_str();
  command->add_option("--split", request->split, "train or val")->check(CLI::IsMember({"train", "val"}))->capture_default_str();
  command->add_flag("--json", request->json, "as one line of JSON: clips, seconds, clips_per_second, failed, bytes of the samples and of the process");
  command->footer("Example: sluice data bench pipelines/motion8.toml --epochs 2 budget.workers=4");
  command->callback([request, &action] { action = [request] { return bench(*request); }; });
}

}  // namespace sluice::app
