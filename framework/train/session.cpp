// The start of a run, in the order in which refusals are cheapest.
#include "framework/train/session.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <limits>
#include <map>

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
#include "framework/train/chunk_choice.hpp"
#include "framework/train/device.hpp"
#include "framework/train/kernel_audit.hpp"
#include "framework/train/long_clip.hpp"
#include "framework/train/radius_check.hpp"
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
  choose_precision(reporter);
  CappedAllocator::install();
  set_compute_threads(pipeline.budget.compute_threads.value);
  if (pipeline.run.deterministic.value) demand_deterministic();
  cache = cache_folder();
  took("device");
  open_data(reporter, options);
  took("data");
  build(options);
  took("model");
  fit(reporter, options);
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
  limits_ = plan_limits(pipeline, !options.training || frozen ? 0 : model->batch_norms(false), options.saved_microbatch);
  // What predict is given may be fewer videos than a batch, and they need not go together.
  if (options.source && sizes_differ(val_streams)) limits_.eval_microbatch = 1;
  if (options.source) {
    limits_.batch = std::min(limits_.batch, std::max<std::int64_t>(1, dataset->samples(Split::val)));
    limits_.eval_microbatch = std::min(limits_.eval_microbatch, limits_.batch);
    limits_.microbatches = {std::min(limits_.microbatches.front(), limits_.batch)};
  }
  if (options.training) check_sizes(train_streams, pipeline.batch.size.value);
  check_sizes(val_streams, limits_.eval_microbatch == 0 ? limits_.microbatches.front() : limits_.eval_microbatch);
  InputConfig input = pipeline.model.input;
  input.layout = wants_channels_last(pipeline) ? "channels_last" : "contiguous";
  if (options.training) train_assembler = std::make_unique<Assembler>(Assembler::Options{train_streams, input, device});
  if (evaluates) eval_assembler = std::make_unique<Assembler>(Assembler::Options{val_streams, input, device});
}

std::string Session::needs_key(const Options& options) const {
  std::string key = fmt::format("{} torch {} {} threads {} train {} passes {} of {} eval {} layout {} norm {}.{}\n", name_of(arithmetic.precision), TORCH_VERSION, device.str(), pipeline.budget.compute_threads.value,
                                options.training, limits_.one_pass() ? "one" : "several", pipeline.batch.size.value, eval_assembler != nullptr,
                                wants_channels_last(pipeline), static_cast<int>(pipeline.model.batch_norm.mode), pipeline.model.batch_norm.group);
  key += fmt::format("chunks of {} and {} of {}\n", chunking.frames, chunking.halo, chunking.on() ? longest_clip_ : 0);
  key += streams_text(train_streams) + "\n" + streams_text(val_streams) + "\n" + join(dataset->classes(), ",") + "\n";
  key += fmt::format("{} {}\n", dataset->samples(Split::train), dataset->samples(Split::val));
  std::vector<std::string> texts{plugin_text(pipeline.model.plugin), plugin_text(pipeline.loss), plugin_text(pipeline.optimizer.plugin), pipeline.data.plugin};
  for (const auto& stage : pipeline.stages) texts.push_back(stage.plugin.plugin);
  key += join(texts, "\n") + "\n";
  // Another build of the trainer may need something else too.
  Dl_info here{};
  if (dladdr(reinterpret_cast<const void*>(&choose_device), &here) != 0 && here.dli_fname) {
    std::error_code ignored;
    key += fmt::format("{} {}\n", std::filesystem::file_size(here.dli_fname, ignored), std::filesystem::last_write_time(here.dli_fname, ignored).time_since_epoch().count());
  }
  for (const auto& found : registry.all()) {
    if (key.find(found.manifest->name) == std::string::npos) continue;
    std::error_code ignored;
    key += fmt::format("{} {} {}\n", found.manifest->name, std::filesystem::file_size(found.file, ignored),
                       std::filesystem::last_write_time(found.file, ignored).time_since_epoch().count());
  }
  return key;
}

// What samples need beside tensors, for an evaluation of that many clips at a time; and the reserve.
BudgetNeeds Session::needs_of_samples(const SampleBounds& train, std::int64_t eval_microbatch) const {
  const std::int64_t size = pipeline.batch.size.value, workers = pipeline.budget.workers.value;
  BudgetNeeds all;
  all.useful_samples = 0;
  std::vector<Demand> demands;
  if (train_assembler) demands.push_back({chunking.on() ? 1 : size, train});
  if (eval_assembler) demands.push_back({chunking.on() ? 1 : eval_microbatch, bounds_of(Split::val, eval_microbatch)});
  set_smallest(all, demands, allowed_failures() - static_cast<std::int64_t>(dataset->failed().size()));
  for (const auto& [batch, bounds] : demands) {
    // Two batches ahead, one at work, and a clip for each worker.
    const auto ahead = 3 * static_cast<std::uint64_t>(batch) * bounds.place + static_cast<std::uint64_t>(2 * workers + 2) * bounds.largest;
    all.useful_samples = std::max({all.useful_samples, ahead, bounds.smallest_all});
  }
  all[Account::reserve] = reserve_bytes(workers);
  return all;
}

// What would make a pipeline fit that does not, beside a larger budget: what changes nothing that is learnt first.
std::string Session::smaller_hint(std::uint64_t beside) const {
  if (!train_assembler) return {};
  if (chunking.on())
    return fmt::format("; or plan.chunk = {}, which learns the same up to rounding{}", std::max(model->temporal_stride(), chunking.frames / 2 / model->temporal_stride() * model->temporal_stride()),
                       limits_.checkpoint.mode == SegmentChoice::Mode::none ? ", or plan.checkpoint = true, which learns the same" : "");
  const auto& norm = pipeline.model.batch_norm;
  const bool may_cut = model->batch_norms(false) == 0 || norm.mode == BatchNormConfig::Mode::frozen;
  std::vector<std::string> pins;
  if (limits_.checkpoint.mode == SegmentChoice::Mode::none || limits_.checkpoint.mode == SegmentChoice::Mode::named) pins.emplace_back("plan.checkpoint = \"auto\"");
  if (may_cut && planned.whole_because.empty() && pipeline.batch.microbatch.value > 1) pins.emplace_back("batch.microbatch = \"auto\"");
  if (!pins.empty()) return fmt::format("; or {}, which {} the same", join(pins, " and "), pins.size() == 1 ? "learns" : "learn");
  if (!planned.whole_because.empty()) return "; " + planned.whole_because + ": with pass.dropout, and batch norm that is counted, it could be cut";
  if (may_cut && limits_.microbatches.size() == 1 && limits_.microbatches.front() > 1) return fmt::format("; the run that is resumed takes {} at a time", limits_.microbatches.front());
  if (may_cut) return {};
  const std::int64_t whole = limits_.microbatches.back();
  if (!planned.model || whole < 2) return {};
  const std::uint64_t room = budget_bytes() > beside ? budget_bytes() - beside : 0;
  std::int64_t group = whole - 1;
  // The gradients of earlier groups live beside each.
  while (group > 0 && with_margin(planned.model->smallest(group).peak) + planned.needs.gradients > room) --group;
  if (group == 0) return {};
  if (norm.mode == BatchNormConfig::Mode::group) return fmt::format("; or model.batch_norm = {{ group = {} }}, which is another network", group);
  return fmt::format("; or, as batch norm over the whole batch keeps it in one piece: model.batch_norm = {{ group = {} }} (statistics over {} at a time), or \"frozen\"", group,
                     counted(static_cast<std::uint64_t>(group), "clip"));
}

std::uint64_t Session::budget_bytes() const { return pipeline.budget.host_ram.value != 0 ? pipeline.budget.host_ram.value : free_memory() / 10 * 8; }

void Session::choose_precision(Reporter& reporter) {
  arithmetic = {pipeline.run.precision.value, device};
  const auto support = precision_support(arithmetic);
  if (!support.works)
    throw Error(Code::configuration, fmt::format("{} does not compute in {}: {}", device.str(), name_of(arithmetic.precision), support.why), "write run.precision = \"fp32\"", pipeline.run.precision.place.text());
  if (!support.native) reporter.note(support.why);
}

// On a device other than the CPU the library's kernels are used as they are.
void Session::check_kernels(NeedsMeter& meter, Reporter& reporter, const Options& options) {
  if (!arithmetic.reduced() || !device.is_cpu()) return;
  const std::uint64_t budget_left = budget_bytes() - std::min(budget_bytes(), resident_bytes());
  const auto& calls = meter.kernels(budget_left);
  CappedAllocator::install().trim();
  AuditOptions how;
  how.program = "/proc/self/exe";
  how.cache = cache;
  how.child_memory = budget_bytes() - std::min(budget_bytes(), resident_bytes());
  how.threads = pipeline.budget.compute_threads.value;
  how.progress = [&](double fraction) {
    if (options.progress) options.progress();
    reporter.progress(fmt::format("checking the kernels in {}", name_of(arithmetic.precision)), fraction);
  };
  const auto audit = audit_kernels(calls, how);
  KernelRoutes::instance().trust(audit.trust);
  routed = audit.routed;
  why_routed_ = audit.why;
  meter.follow(routed);
}

SampleBounds Session::bounds_of(Split split, std::int64_t batch) const { return sample_bounds(*dataset, stages, split, no_cap, chunking.on() ? 1 : batch, chunking); }

void Session::use_chunks(std::int64_t frames) {
  chunking = chunking_of(*model, frames);
  InputConfig input = pipeline.model.input;
  input.layout = wants_channels_last(pipeline) ? "channels_last" : "contiguous";
  if (train_assembler) train_assembler = std::make_unique<Assembler>(Assembler::Options{bounds_of(Split::train, 1).streams, input, device});
  if (eval_assembler) eval_assembler = std::make_unique<Assembler>(Assembler::Options{bounds_of(Split::val, 1).streams, input, device});
}

void Session::cut_clips(std::int64_t frames) {
  check_chunked(*model, pipeline);
  limits_.microbatches = {1};
  limits_.eval_microbatch = 1;
  if (limits_.checkpoint.mode == SegmentChoice::Mode::automatic) limits_.checkpoint.mode = SegmentChoice::Mode::none;  // a smaller chunk saves as much
  use_chunks(frames);
  check_radius(*model, train_assembler ? *train_assembler : *eval_assembler, chunking);
}

void Session::fit(Reporter& reporter, const Options& options) {
  for (const Split split : {Split::train, Split::val})
    if (model->temporal_radius() && (split == Split::train ? train_assembler : eval_assembler)) longest_clip_ = std::max(longest_clip_, longest_clip(*dataset, stages, split));
  const auto all = chunks_to_try(*model, pipeline.plan.chunk, options.saved_chunk, longest_clip_);
  for (const auto frames : all) {
    if (frames > 0) cut_clips(frames);
    try {
      fit_into_budget(reporter, options);
      for (const auto& line : why_routed_) reporter.note(line);
      return;
    } catch (const Error& error) {
      if (frames == all.back() || error.code() != Code::configuration) throw;
    }
  }
}

void Session::fit_into_budget(Reporter& reporter, const Options& options) {
  const std::uint64_t host_ram = budget_bytes();
  const std::int64_t size = pipeline.batch.size.value;
  const SampleBounds train = train_assembler ? bounds_of(Split::train, size) : SampleBounds{};
  std::map<std::int64_t, BudgetNeeds> of_samples;
  const auto samples_for = [&](std::int64_t eval_microbatch) -> const BudgetNeeds& {
    const auto known = of_samples.find(eval_microbatch);
    return known != of_samples.end() ? known->second : of_samples.emplace(eval_microbatch, needs_of_samples(train, eval_microbatch)).first->second;
  };

  NeedsRequest request;
  request.model = model.get();
  request.loss = loss.get();
  request.optimizer = optimizer.get();
  request.train = train_assembler.get();
  request.eval = eval_assembler.get();
  request.batch_size = size;
  request.classes = classes();
  request.one_pass = limits_.one_pass();
  request.arithmetic = arithmetic;
  request.chunking = chunking;
  request.clip_frames = longest_clip_;
  // The first start of a large network takes a while.
  request.progress = [&, pass = 0]() mutable {
    if (options.progress) options.progress();
    reporter.progress("measuring what the network needs", std::min(0.9, 0.15 * pass++));
  };
  NeedsMeter meter(std::move(request), cache, needs_key(options));
  check_kernels(meter, reporter, options);

  PlanRequest wanted;
  wanted.limits = limits_;
  wanted.host_ram = host_ram;
  wanted.reserve = reserve_bytes(pipeline.budget.workers.value);
  wanted.samples = [&](std::int64_t eval_microbatch) { return SampleRoom{samples_for(eval_microbatch).smallest_samples, samples_for(eval_microbatch).useful_samples}; };
  step_times = StepTimes(cache, needs_key(options));
  wanted.times = &step_times;
  planned = make_plan(meter, wanted);
  if (meter.passes() > 0) reporter.progress("measuring what the network needs", 1);
  meter.remember();
  if (chunking.on()) {
    planned.plan.chunk = planned.smallest.chunk = chunking.frames;
    planned.why = fmt::format("clips of up to {} frames, {} at a time and {} more on each side", longest_clip_, chunking.frames, chunking.halo);
  }

  const auto all_of = [&](const TrainingPlan& what, const TensorNeeds& tensors) {
    BudgetNeeds all = samples_for(what.eval_microbatch);
    all[Account::base] = tensors.base;
    all[Account::runtime] = tensors.runtime;
    all[Account::parameters] = tensors.parameters;
    all[Account::gradients] = tensors.gradients;
    all[Account::optimizer] = tensors.optimizer;
    all[Account::activations] = tensors.activations;
    return all;
  };
  const std::string where = pipeline.budget.host_ram.place.text();
  try {
    const std::uint64_t smallest = divide_budget(host_ram, all_of(planned.smallest, planned.smallest_needs), where).smallest;
    budget = divide_budget(host_ram, all_of(planned.plan, planned.needs), where);
    budget.smallest = smallest;
  } catch (const BudgetError& error) {
    const auto& tensors = planned.smallest_needs;
    const std::uint64_t beside = tensors.base + tensors.runtime + tensors.parameters + tensors.optimizer + wanted.reserve + samples_for(planned.smallest.eval_microbatch).smallest_samples;
    throw BudgetError(error.smallest(), error.message(), error.hint() + smaller_hint(beside), error.where());
  }
  CappedAllocator::install().set_cap(planned.needs.tensors() + budget.unused);
  samples = std::make_unique<Ledger>(budget.samples);
}

Change Session::more_memory(std::uint64_t pass) const {
  const auto& needs = planned.needs;
  const auto bytes = needs.base + needs.runtime + needs.parameters + needs.optimizer + reserve_bytes(pipeline.budget.workers.value) + budget.useful + with_margin(pass);
  return {"budget.host_ram", fmt::format("\"{}\"", bytes_to_write(bytes)), fmt::format("learns the same bit for bit: this batch went through with {} for its pass", format_bytes(pass))};
}

std::vector<std::int64_t> Session::microbatches_if_open() const {
  if (!planned.whole_because.empty()) return {};
  Pipeline open = pipeline;
  open.batch.microbatch.value = 0;
  const bool frozen = pipeline.model.batch_norm.mode == BatchNormConfig::Mode::frozen;
  return plan_limits(open, frozen ? 0 : model->batch_norms(false)).microbatches;
}

std::string Session::plan_toml() const {
  const auto& plan = planned.plan;
  List names;
  for (const auto& name : plan.checkpointing.names) names.push_back({name, {}});
  const std::string checkpoint = plan.checkpointing.all ? "true" : names.empty() ? "false" : toml_text(Value{names, {}});
  std::string text = fmt::format("# {}\n# host_ram = \"{}\"; the least that works: \"{}\"\n# The same plan again: sluice train FILE --plan plan.toml\n", planned.why,
                                 bytes_to_write(budget.host_ram), bytes_to_write(budget.smallest));
  text += fmt::format("[batch]\nmicrobatch = {}\n\n", plan.microbatch);
  if (eval_assembler) text += fmt::format("[eval]\nmicrobatch = {}\n\n", plan.eval_microbatch);
  text += fmt::format("[plan]\ncheckpoint = {}\nlayout = \"{}\"\n", checkpoint, wants_channels_last(pipeline) ? "channels_last" : "contiguous");
  if (model->temporal_radius()) text += fmt::format("chunk = {}\n", chunking.on() ? chunking.frames : std::max<std::int64_t>(1, longest_clip_));  // as long as the longest: whole
  return text;
}

Feed::Options Session::feed_options() const {
  Feed::Options options;
  options.workers = pipeline.budget.workers.value;
  options.in_flight = pipeline.budget.in_flight.value;
  options.batch_size = pipeline.batch.size.value;
  options.eval_batch_size = planned.plan.eval_microbatch;
  options.drop_last = pipeline.batch.drop_last.value;
  options.seed = static_cast<std::uint64_t>(pipeline.run.seed.value);
  options.chunking = chunking;
  return options;
}

double Session::scaled_learning_rate() const {
  const double base_batch = pipeline.optimizer.lr_base_batch.value;
  return base_batch > 0 ? optimizer->learning_rate() * static_cast<double>(pipeline.batch.size.value) / base_batch : optimizer->learning_rate();
}

double Session::learning_rate(std::int64_t step) const { return schedule ? scaled_learning_rate() * schedule->factor(step) : scaled_learning_rate(); }

AccountBytes Session::accounts(bool peak) const {
  const auto now = CappedAllocator::install().counters();
  AccountBytes bytes{};
  const auto set = [&](Account account, std::uint64_t value) { bytes[static_cast<std::size_t>(account)] = value; };
  set(Account::base, planned.needs.base);
  set(Account::runtime, planned.needs.runtime);
  set(Account::parameters, now.of(Account::parameters));
  set(Account::optimizer, now.of(Account::optimizer));
  const std::uint64_t others = now.of(Account::parameters) + now.of(Account::optimizer);
  const std::uint64_t gradients = peak ? planned.needs.gradients : now.of(Account::gradients);
  const std::uint64_t total = peak ? now.footprint : now.live + now.kept;  // blocks that wait for reuse are resident too
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
  out.emplace_back("model", fmt::format("{}, {} parameters{}", pipeline.model.plugin.plugin, with_commas(static_cast<std::uint64_t>(parameters)),
                                        arithmetic.reduced() ? fmt::format(", computed in {}, kept in fp32", name_of(arithmetic.precision)) : ""));
  if (train_assembler) {
    const std::int64_t size = pipeline.batch.size.value;
    std::string batch = counted(static_cast<std::uint64_t>(size), "clip");
    if (chunking.on()) batch += fmt::format(", of up to {} frames, {} at a time and {} more on each side", with_commas(static_cast<std::uint64_t>(longest_clip_)), chunking.frames, chunking.halo);
    else if (planned.plan.microbatch < size) batch += fmt::format(", {} at a time", planned.plan.microbatch);
    if (!planned.whole_because.empty()) batch += "; " + planned.whole_because;
    if (planned.plan.checkpointing.any()) batch += ", computed twice: " + text_of(planned.plan.checkpointing);
    out.emplace_back("batch", batch);
    if (pipeline.optimizer.lr_base_batch.value > 0)
      out.emplace_back("learning rate", fmt::format("lr {} x {}/{} = {:.6g}", optimizer->learning_rate(), size, pipeline.optimizer.lr_base_batch.value, scaled_learning_rate()));
  }
  out.emplace_back("memory", fmt::format("{} of host memory, {} of it for samples; the least that works: {}", format_bytes(budget.host_ram), format_bytes(budget.samples),
                                         format_bytes(budget.smallest)));
  return out;
}

RunState Session::state(const TrainRequest& request) const {
  RunState state;
  state.seed = pipeline.run.seed.value;
  state.microbatch = planned.plan.microbatch;
  state.chunk = chunking.frames;
  state.compute_threads = pipeline.budget.compute_threads.value;
  state.layout = wants_channels_last(pipeline) ? "channels_last" : "contiguous";
  state.device = c10::DeviceTypeName(device.type(), true);
  state.precision = name_of(arithmetic.precision);
  state.routed = routed;
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
