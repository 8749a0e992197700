// The start of a run, in the order in which refusals are cheapest.
#include "framework/train/session.hpp"

#include <algorithm>

#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/base/afresh.hpp"
#include "framework/base/bytes.hpp"
#include "framework/base/cache_folder.hpp"
#include "framework/base/clock.hpp"
#include "framework/base/log.hpp"
#include "framework/base/strings.hpp"
#include "framework/config/layers.hpp"
#include "framework/flow/workers.hpp"
#include "framework/train/capped_allocator.hpp"
#include "framework/train/device.hpp"
#include "framework/train/lost_device.hpp"
#include "framework/train/threads.hpp"
#include "framework/train/weights.hpp"

namespace sluice {
namespace {

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

}  // namespace

Session::Session(const TrainRequest& request, Reporter& reporter, Options options) : pipeline(*request.pipeline), registry(*request.registry) {
  Stopwatch watch;
  const auto took = [&](const char* what) {
    seconds.emplace_back(what, watch.seconds());
    watch.restart();
    if (options.progress) options.progress();
  };
  device = options.saved_device ? choose_device_again(pipeline.run.device, *options.saved_device) : choose_device(pipeline.run.device);
  const auto& offload = pipeline.plan.offload;
  if (options.training && device.is_cpu() && device_memory() == 0 && (offload.mode == SegmentChoice::Mode::all || (offload.mode == SegmentChoice::Mode::named && !offload.names.empty())))
    throw Error(Code::configuration, "plan.offload moves activations out of the device's memory, and here they are in the host's already",
                "leave it out; or set budget.device_memory, and the CPU keeps its tensors within it as a card would", offload.place.text());
  on_device([this] { return DeviceUse{device, "the start"}; }, [&] {
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
  });
  speaks_for_itself();
}

void Session::open_data(Reporter& reporter, Options& options) {
  stages = Stages::load(registry, pipeline, options.training);
  Recipe source = options.source ? std::move(*options.source) : Recipe(registry, pipeline.data);
  Dataset::Options how;
  how.cache_dir = cache;
  how.workers = workers_of(pipeline.budget);
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
    throw Error(Code::data, (options.source ? "there is nothing to predict: " : "there is nothing to evaluate on: ") + (dataset->failed().empty() ? std::string("the source lists no sample in val")
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
  if (evaluates) limits_.eval_microbatch = std::min(limits_.eval_microbatch, dataset->samples(Split::val));
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

void Session::choose_precision(Reporter& reporter) {
  arithmetic = {pipeline.run.precision.value, device};
  const auto support = precision_support(arithmetic);
  if (!support.works)
    throw Error(Code::configuration, fmt::format("{} does not compute in {}: {}", device.str(), name_of(arithmetic.precision), support.why), "write run.precision = \"fp32\"", pipeline.run.precision.place.text());
  if (!support.native) reporter.note(support.why);
  if (pipeline.run.precision.place.layer == plan_layer && arithmetic.reduced()) reporter.note(fmt::format("run.precision = \"{}\" is the plan's ({})", name_of(arithmetic.precision), pipeline.run.precision.place.text()));
}

Feed::Options Session::feed_options() const {
  Feed::Options options;
  options.workers = workers;
  options.in_flight = pipeline.budget.in_flight.value;
  options.trains = train_assembler != nullptr;
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
