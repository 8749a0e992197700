// The start of a run, in the order in which refusals are cheapest.
#include "framework/train/session.hpp"

#include <algorithm>
#include <limits>

#include <ATen/core/Tensor.h>
#include <fmt/format.h>
#include <torch/version.h>

#include <sluice/error.hpp>

#include "framework/base/bytes.hpp"
#include "framework/base/cache_folder.hpp"
#include "framework/base/clock.hpp"
#include "framework/base/log.hpp"
#include "framework/base/strings.hpp"
#include "framework/config/tables.hpp"
#include "framework/config/toml.hpp"
#include "framework/memory/process.hpp"
#include "framework/state/hash.hpp"
#include "framework/train/capped_allocator.hpp"
#include "framework/train/device.hpp"
#include "framework/train/threads.hpp"
#include "framework/train/weights.hpp"

namespace sluice {
namespace {

// What is kept free beside all that was measured: stacks and malloc of the workers, decoders' tables, log, checkpoint.
std::uint64_t reserve_bytes(std::int64_t workers) { return 24 * MiB + static_cast<std::uint64_t>(workers) * 2 * MiB; }

constexpr std::uint64_t no_cap = std::numeric_limits<std::uint64_t>::max() / 4;

struct Demand {
  std::int64_t batch = 1;
  SampleBounds bounds;
};

// The least share of the samples with which a run does not end for samples that are too large: the median fits, and of those above
// it no more are left out than may fail.
void set_smallest(BudgetNeeds& all, const std::vector<Demand>& demands, std::int64_t may_fail) {
  std::vector<std::uint64_t> caps;
  std::uint64_t least = 0;
  for (const auto& [batch, bounds] : demands) {
    least = std::max(least, bounds.smallest);
    for (const auto& step : bounds.steps) caps.push_back(step.cap);
  }
  std::sort(caps.begin(), caps.end());
  for (const auto cap : caps) {
    if (cap < least) continue;
    std::int64_t too_large = 0;
    std::uint64_t most = 0;
    std::string what;
    for (const auto& [batch, bounds] : demands) {
      const auto after = std::upper_bound(bounds.steps.begin(), bounds.steps.end(), cap, [](std::uint64_t value, const SampleBounds::Step& step) { return value < step.cap; });
      const auto& step = *std::prev(after);
      too_large += step.too_large;
      if (const auto needed = smallest_cap(batch, bounds.place, step.largest); needed > most) {
        most = needed;
        what = fmt::format("a batch of {}, {} a clip, and one of {} on its way", batch, format_bytes(bounds.place), format_bytes(step.largest));
      }
    }
    if (too_large > std::max<std::int64_t>(may_fail, 0)) continue;
    all.smallest_samples = cap;
    all.what_samples = what;
    return;
  }
}

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

bool sizes_differ(const StreamInfos& streams) {
  return std::any_of(streams.begin(), streams.end(), [](const auto& stream) { return stream.second.axes == "THWC" && (stream.second.varies(1) || stream.second.varies(2)); });
}

// Frames of differing sizes cannot be one tensor; padding them silently would teach the network its borders.
void check_sizes(const StreamInfos& streams, std::int64_t batch) {
  for (const auto& [name, info] : streams)
    if (batch > 1 && info.axes == "THWC" && (info.varies(1) || info.varies(2)))
      throw Error(Code::configuration, fmt::format("the frames of '{}' differ in size from sample to sample (up to {}x{}), and a batch needs one size", name, info.shape[1], info.shape[2]),
                  "add a stage that makes them equal, e.g. augment.resize with size = [112, 112], or a crop after it");
}

std::string plugin_text(const PluginConfig& config) { return config.plugin + " " + toml_text({config.settings, {}}); }

std::string streams_text(const StreamInfos& streams) {
  std::string out;
  for (const auto& [name, info] : streams)
    out += fmt::format("{}:{}{}{}v{};", name, name_of(info.dtype), info.shape.text(), info.axes, info.varying);
  return out;
}

}  // namespace

Session::Session(const TrainRequest& request, Reporter& reporter, Options options) : pipeline(*request.pipeline), registry(*request.registry) {
  Stopwatch watch;
  const auto took = [&](const char* what) {
    seconds.emplace_back(what, watch.seconds());
    watch.restart();
    if (options.progress) options.progress();
  };
  device = choose_device(pipeline.run.device);
  CappedAllocator::install();
  set_compute_threads(pipeline.budget.compute_threads.value);
  if (pipeline.run.deterministic.value) demand_deterministic();
  cache = cache_folder();
  took("device");
  open_data(reporter, options);
  took("data");
  build(options);
  took("model");
  fit(options);
  took("memory");
}

void Session::open_data(Reporter& reporter, Options& options) {
  stages = Stages::load(registry, pipeline, options.training);
  Recipe source = options.source ? std::move(*options.source) : Recipe(registry, pipeline.data);
  Dataset::Options how;
  how.cache_dir = cache;
  how.workers = pipeline.budget.workers.value;
  how.seed = static_cast<std::uint64_t>(pipeline.run.seed.value);
  how.eval_clips = pipeline.eval.clips.value;
  how.progress = [&reporter, progress = options.progress](const std::string& what, double fraction) {
    if (progress) progress();
    reporter.progress(what, fraction);
  };
  dataset = std::make_unique<Dataset>(std::move(source), stages, std::move(how));
  if (options.training && dataset->samples(Split::train) == 0)
    throw Error(Code::data, "there is nothing to train on: " + (dataset->failed().empty() ? std::string("the source lists no training sample")
                                                                                       : counted(dataset->failed().size(), "entry") + " could not be used, e.g. " +
                                                                                             dataset->failed().front().where + ": " + dataset->failed().front().why),
                "", pipeline.data.place.text());
  if (!options.training && dataset->samples(Split::val) == 0)
    throw Error(Code::data, "there is nothing to evaluate on: " + (dataset->failed().empty() ? std::string("the source lists no sample in val")
                                                                                         : dataset->failed().front().where + ": " + dataset->failed().front().why),
                "", pipeline.data.place.text());
  const std::int64_t size = pipeline.batch.size.value, count = dataset->samples(Split::train);
  steps_per_epoch = pipeline.batch.drop_last.value ? count / size : ceil_div(count, size);
  if (options.training && steps_per_epoch == 0)
    throw Error(Code::configuration, fmt::format("{} make no whole batch of {}, and drop_last leaves out the rest", counted(static_cast<std::uint64_t>(count), "training sample"), size),
                "write drop_last = false, or a smaller batch.size", pipeline.batch.drop_last.place.text());
  total_steps = pipeline.run.steps.value > 0 ? pipeline.run.steps.value : pipeline.run.epochs.value * steps_per_epoch;
}

void Session::build(const Options& options) {
  const SampleBounds train = options.training ? sample_bounds(*dataset, stages, Split::train, no_cap) : SampleBounds{};
  const bool evaluates = options.evaluation && dataset->samples(Split::val) > 0;
  const SampleBounds val = evaluates ? sample_bounds(*dataset, stages, Split::val, no_cap) : SampleBounds{};
  train_streams = train.streams;
  val_streams = val.streams;
  for (const auto* bounds : {options.training ? &train : nullptr, evaluates ? &val : nullptr})
    if (bounds && bounds->streams.empty())
      throw Error(Code::data, "no sample can be used: " + (bounds->why_unusable.empty() ? std::string("no stream reaches the model") : bounds->why_unusable));
  model = build_model(registry, pipeline, dataset->classes(), options.training ? train_streams : val_streams, device);
  if (pipeline.model.weights && options.starting_weights) {
    const SafetensorsFile file(system_disk(), pipeline.model.weights->value);
    std::vector<NamedTensor> tensors = model->weights();
    for (auto& item : model->statistics()) tensors.push_back(std::move(item));
    try {
      log::info("weights of {}: {}", file.path().string(), load_tensors(file, tensors, true).text());
    } catch (const Error& error) {
      throw error.at(pipeline.model.weights->place.text());
    }
  }
  loss = build_loss(registry, pipeline, dataset->classes());
  if (options.training) {
    optimizer = build_optimizer(registry, pipeline, *model);
    schedule = build_schedule(registry, pipeline, total_steps, steps_per_epoch);
  }
  metrics = build_metrics(registry, pipeline, dataset->classes());
  check_best_metric(pipeline.eval.best.value, metric_names(metrics), pipeline.eval.best.place.text());

  const bool frozen = pipeline.model.batch_norm.mode == BatchNormConfig::Mode::frozen;
  cut = choose_cut(pipeline, !options.training || frozen ? 0 : model->batch_norms(false));
  // What predict is given may be fewer videos than a batch, and they need not go together.
  if (options.source) cut.eval_microbatch = sizes_differ(val_streams) ? 1 : std::min(cut.eval_microbatch, std::max<std::int64_t>(1, dataset->samples(Split::val)));
  if (options.training) check_sizes(train_streams, pipeline.batch.size.value);
  check_sizes(val_streams, cut.eval_microbatch);
  InputConfig input = pipeline.model.input;
  input.layout = wants_channels_last(pipeline) ? "channels_last" : "contiguous";
  if (options.training) train_assembler = std::make_unique<Assembler>(Assembler::Options{train_streams, input, device});
  if (evaluates) eval_assembler = std::make_unique<Assembler>(Assembler::Options{val_streams, input, device});
}

std::string Session::needs_key(const Options& options) const {
  std::string key = fmt::format("1 torch {} {} threads {} train {} of {} eval {} layout {} norm {}.{}\n", TORCH_VERSION, device.str(), pipeline.budget.compute_threads.value,
                                options.training ? cut.microbatch : 0, pipeline.batch.size.value, eval_assembler ? cut.eval_microbatch : 0,
                                wants_channels_last(pipeline), static_cast<int>(pipeline.model.batch_norm.mode), pipeline.model.batch_norm.group);
  key += streams_text(train_streams) + "\n" + streams_text(val_streams) + "\n" + join(dataset->classes(), ",") + "\n";
  key += fmt::format("{} {}\n", dataset->samples(Split::train), dataset->samples(Split::val));
  std::vector<std::string> texts{plugin_text(pipeline.model.plugin), plugin_text(pipeline.loss), plugin_text(pipeline.optimizer.plugin), pipeline.data.plugin};
  for (const auto& stage : pipeline.stages) texts.push_back(stage.plugin.plugin);
  key += join(texts, "\n") + "\n";
  for (const auto& found : registry.all()) {
    if (key.find(found.manifest->name) == std::string::npos) continue;
    std::error_code ignored;
    key += fmt::format("{} {} {}\n", found.manifest->name, std::filesystem::file_size(found.file, ignored),
                       std::filesystem::last_write_time(found.file, ignored).time_since_epoch().count());
  }
  return key;
}

void Session::fit(const Options& options) {
  const std::uint64_t free = free_memory();
  const std::uint64_t host_ram = pipeline.budget.host_ram.value != 0 ? pipeline.budget.host_ram.value : free / 10 * 8;
  const std::int64_t size = pipeline.batch.size.value, workers = pipeline.budget.workers.value;

  BudgetNeeds all;
  all.useful_samples = 0;
  std::vector<Demand> demands;
  if (train_assembler) demands.push_back({size, sample_bounds(*dataset, stages, Split::train, no_cap, size)});
  if (eval_assembler) demands.push_back({cut.eval_microbatch, sample_bounds(*dataset, stages, Split::val, no_cap, cut.eval_microbatch)});
  set_smallest(all, demands, allowed_failures() - static_cast<std::int64_t>(dataset->failed().size()));
  for (const auto& [batch, bounds] : demands) {
    // Two batches ahead, one at work, and a clip for each worker.
    const auto ahead = 3 * static_cast<std::uint64_t>(batch) * bounds.place + static_cast<std::uint64_t>(2 * workers + 2) * bounds.largest;
    all.useful_samples = std::max({all.useful_samples, ahead, bounds.smallest_all});
  }
  all[Account::reserve] = reserve_bytes(workers);

  const std::string key = needs_key(options);
  if (const auto known = recall_needs(cache, key)) {
    needs = *known;
  } else {
    NeedsRequest request{model.get(), loss.get(), optimizer.get(), train_assembler.get(), eval_assembler.get(), cut, size, classes(), host_ram,
                         all.smallest_samples + all[Account::reserve]};
    needs = measure_needs(request);
    remember_needs(cache, key, needs);
  }
  all[Account::base] = needs.base;
  all[Account::runtime] = needs.runtime;
  all[Account::parameters] = needs.parameters;
  all[Account::gradients] = needs.gradients;
  all[Account::optimizer] = needs.optimizer;
  all[Account::activations] = needs.activations;

  const std::string where = pipeline.budget.host_ram.place.text();
  try {
    budget = divide_budget(host_ram, all, where);
  } catch (const Error& error) {
    const std::uint64_t beside = all[Account::base] + all[Account::runtime] + all[Account::reserve] + all[Account::parameters] + all[Account::gradients] +
                                 all[Account::optimizer] + all.smallest_samples;
    const std::uint64_t fixed = needs.activations - std::min(needs.activations, needs.per_clip * static_cast<std::uint64_t>(cut.microbatch));
    const std::uint64_t room = host_ram > beside + fixed ? host_ram - beside - fixed : 0;
    const auto fits = std::min<std::int64_t>(cut.microbatch - 1, needs.per_clip == 0 ? 0 : static_cast<std::int64_t>(room / needs.per_clip));
    std::string hint = error.hint();
    const bool whole = train_assembler && pipeline.model.batch_norm.mode == BatchNormConfig::Mode::batch && model->batch_norms(false) > 0;
    if (fits > 0 && whole)
      hint += fmt::format("; or, as batch norm over the whole batch keeps it in one piece: model.batch_norm = {{ group = {} }} (statistics over {} at a time), or \"frozen\" with batch.microbatch = {}",
                          fits, counted(static_cast<std::uint64_t>(fits), "clip"), fits);
    else if (fits > 0 && train_assembler)
      hint += fmt::format("; or batch.microbatch = {}, which learns the same", fits);
    throw Error(error.code(), error.message(), hint, error.where());
  }
  CappedAllocator::install().set_cap(needs.tensors() + budget.unused);
  samples = std::make_unique<Ledger>(budget.samples);
}

Feed::Options Session::feed_options() const {
  Feed::Options options;
  options.workers = pipeline.budget.workers.value;
  options.in_flight = pipeline.budget.in_flight.value;
  options.batch_size = pipeline.batch.size.value;
  options.eval_batch_size = cut.eval_microbatch;
  options.drop_last = pipeline.batch.drop_last.value;
  options.seed = static_cast<std::uint64_t>(pipeline.run.seed.value);
  return options;
}

double Session::learning_rate(std::int64_t step) const {
  double rate = optimizer->learning_rate();
  if (pipeline.optimizer.lr_base_batch.value > 0) rate *= static_cast<double>(pipeline.batch.size.value) / pipeline.optimizer.lr_base_batch.value;
  return schedule ? rate * schedule->factor(step) : rate;
}

AccountBytes Session::accounts(bool peak) const {
  const auto now = CappedAllocator::install().counters();
  AccountBytes bytes{};
  const auto set = [&](Account account, std::uint64_t value) { bytes[static_cast<std::size_t>(account)] = value; };
  set(Account::base, needs.base);
  set(Account::runtime, needs.runtime);
  set(Account::parameters, now.of(Account::parameters));
  set(Account::optimizer, now.of(Account::optimizer));
  const std::uint64_t others = now.of(Account::parameters) + now.of(Account::optimizer);
  const std::uint64_t gradients = peak ? needs.gradients : now.of(Account::gradients);
  const std::uint64_t total = peak ? now.peak : now.live;
  set(Account::gradients, std::min(gradients, total - std::min(total, others)));
  set(Account::activations, total - std::min(total, others + gradients));
  set(Account::samples, samples ? peak ? samples->peak() : samples->used() : 0);
  return bytes;
}

std::vector<std::pair<std::string, std::string>> Session::facts() const {
  std::int64_t parameters = 0;
  for (const auto& weight : model->weights()) parameters += weight.tensor.numel();
  std::vector<std::pair<std::string, std::string>> out;
  out.emplace_back("device", fmt::format("{}, {} for the network, {} for the data", device.str(), counted(static_cast<std::uint64_t>(pipeline.budget.compute_threads.value), "thread"),
                                         counted(static_cast<std::uint64_t>(pipeline.budget.workers.value), "thread")));
  out.emplace_back("data", fmt::format("{}: {} to train, {} to evaluate, {}", pipeline.data.plugin, with_commas(static_cast<std::uint64_t>(dataset->samples(Split::train))),
                                       with_commas(static_cast<std::uint64_t>(dataset->samples(Split::val))),
                                       classes() == 1 ? "1 class" : fmt::format("{} classes", classes())));
  out.emplace_back("model", fmt::format("{}, {} parameters", pipeline.model.plugin.plugin, with_commas(static_cast<std::uint64_t>(parameters))));
  if (train_assembler) {
    const std::int64_t size = pipeline.batch.size.value;
    std::string batch = counted(static_cast<std::uint64_t>(size), "clip");
    if (cut.microbatch < size) batch += fmt::format(", {} at a time", cut.microbatch);
    out.emplace_back("batch", batch);
    if (pipeline.optimizer.lr_base_batch.value > 0)
      out.emplace_back("learning rate", fmt::format("{} x {} / {} = {}", optimizer->learning_rate(), size, pipeline.optimizer.lr_base_batch.value,
                                                    optimizer->learning_rate() * static_cast<double>(size) / pipeline.optimizer.lr_base_batch.value));
  }
  out.emplace_back("memory", fmt::format("{} of host memory, {} of it for samples; the least that works: {}", format_bytes(budget.host_ram), format_bytes(budget.samples),
                                         format_bytes(budget.smallest)));
  return out;
}

RunState Session::state(const TrainRequest& request) const {
  RunState state;
  state.seed = pipeline.run.seed.value;
  state.microbatch = cut.microbatch;
  state.compute_threads = pipeline.budget.compute_threads.value;
  state.layout = wants_channels_last(pipeline) ? "channels_last" : "contiguous";
  state.device = c10::DeviceTypeName(device.type(), true);
  state.classes = dataset->classes();
  state.train_samples = dataset->samples(Split::train);
  state.train_digest = fmt::format("{:016x}", dataset->digest(Split::train));
  state.pipeline = pipeline.canonical;
  state.overrides = request.overrides;
  state.torch_version = TORCH_VERSION;
  state.sluice_version = sdk_version;
  std::vector<std::string> names{pipeline.data.plugin, pipeline.model.plugin.plugin, pipeline.loss.plugin, pipeline.optimizer.plugin.plugin};
  for (const auto& stage : pipeline.stages) names.push_back(stage.plugin.plugin);
  if (pipeline.schedule) names.push_back(pipeline.schedule->plugin);
  for (const auto& name : {"backbone", "head"})
    if (const Member* part = find(pipeline.model.plugin.settings, name))
      if (const Table* table = as_table(part->value))
        if (const Member* plugin = find(*table, "plugin")) names.push_back(*as_text(plugin->value));
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  for (const auto& name : names) {
    const auto found = registry.find(name);
    if (!found.manifest) continue;
    std::error_code ignored;
    const auto bytes = std::filesystem::file_size(found.file, ignored);
    state.plugins.emplace_back(name, ignored ? "" : hash_of(read_file(system_disk(), found.file, bytes + 1)));
  }
  return state;
}

std::int64_t Session::allowed_failures() const {
  const double limit = pipeline.run.max_failures.value;
  const auto all = dataset->videos(Split::train) + dataset->videos(Split::val) + static_cast<std::int64_t>(dataset->failed().size());
  return static_cast<std::int64_t>(limit < 1 ? limit * static_cast<double>(all) : limit);
}

void Session::check_failures(std::int64_t failed) const {
  const auto allowed = allowed_failures();
  const auto all = dataset->videos(Split::train) + dataset->videos(Split::val) + static_cast<std::int64_t>(dataset->failed().size());
  if (failed > allowed)
    throw Error(Code::data, fmt::format("{} of {} could not be used; run.max_failures allows {}{}", counted(static_cast<std::uint64_t>(failed), "sample"), with_commas(static_cast<std::uint64_t>(all)),
                                        allowed, dataset->failed().empty() ? "" : "; e.g. " + dataset->failed().front().where + ": " + dataset->failed().front().why),
                "failures.jsonl in the run's folder lists each with its cause; repair or remove them, or raise run.max_failures", pipeline.run.max_failures.place.text());
}

}  // namespace sluice
