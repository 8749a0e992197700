// How the session fits into its budget: what the network needs is measured, a plan is chosen, and the rest goes to the samples.
#include <dlfcn.h>
#include <malloc.h>

#include <algorithm>
#include <map>
#include <numeric>

#include <ATen/core/Tensor.h>
#include <fmt/format.h>
#include <torch/version.h>

#include <sluice/error.hpp>

#include "framework/base/afresh.hpp"
#include "framework/base/bytes.hpp"
#include "framework/base/log.hpp"
#include "framework/base/strings.hpp"
#include "framework/config/toml.hpp"
#include "framework/flow/workers.hpp"
#include "framework/memory/machine.hpp"
#include "framework/memory/nvidia.hpp"
#include "framework/memory/process.hpp"
#include "framework/train/capped_allocator.hpp"
#include "framework/train/checkpointing.hpp"
#include "framework/train/chunk_choice.hpp"
#include "framework/train/device.hpp"
#include "framework/train/kernel_audit.hpp"
#include "framework/train/long_clip.hpp"
#include "framework/train/offload_store.hpp"
#include "framework/train/radius_check.hpp"
#include "framework/train/session.hpp"
#include "framework/train/tensor_memory.hpp"

namespace sluice {
namespace {

// A larger budget may be planned with passes of other sizes, for which the libraries keep more.
constexpr std::uint64_t other_passes = 6 * MiB;

// Workers that were left open take what the tensors and the least of the samples leave. `with_one`: all accounts, with the reserve of one.
std::int64_t workers_that_fit(std::uint64_t host_ram, const BudgetConfig& config, const BudgetNeeds& with_one, std::uint64_t largest_sample) {
  const std::int64_t most = workers_of(config);
  if (config.workers.value > 0) return most;
  const std::uint64_t taken = std::accumulate(with_one.bytes.begin(), with_one.bytes.end(), with_one.smallest_samples);
  const std::uint64_t spare = host_ram - std::min(host_ram, taken), each = reserve_bytes(1) - reserve_bytes(0) + 2 * largest_sample;
  return 1 + static_cast<std::int64_t>(std::min<std::uint64_t>(static_cast<std::uint64_t>(most - 1), spare / each));
}

// Batches ahead of the trainer, and the one at work.
constexpr std::uint64_t most_batches = 3;

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

std::string plugin_text(const PluginConfig& config) { return config.plugin + " " + toml_text({config.settings, {}}); }

std::string streams_text(const StreamInfos& streams) {
  std::string out;
  for (const auto& [name, info] : streams)
    out += fmt::format("{}:{}{}{}v{};", name, name_of(info.dtype), info.shape.text(), info.axes, info.varying);
  return out;
}

}  // namespace

std::string Session::needs_key(const Options& options) const {
  std::string key = fmt::format("{} torch {} {} threads {} train {} passes {} of {} eval {} layout {} norm {}.{}\n", name_of(arithmetic.precision), TORCH_VERSION, device.str(), pipeline.budget.compute_threads.value,
                                options.training, limits_.one_pass() ? "one" : "several", pipeline.batch.size.value, eval_assembler != nullptr,
                                wants_channels_last(pipeline), static_cast<int>(pipeline.model.batch_norm.mode), pipeline.model.batch_norm.group);
  // Other processors and drivers have other kernels, as have other settings of the libraries.
  const auto processor = read_processor();
  key += fmt::format("{} {} deterministic {}\n", processor.model, join(processor.flags, ","), pipeline.run.deterministic.value);
  for (const auto& [name, value] : pipeline.environment) key += fmt::format("{}={}\n", name, value);
  if (!device.is_cpu()) {
    const auto driver = read_nvidia();
    key += driver.driver + "\n";
    for (const auto& card : driver.cards) key += card.name + "\n";
  }
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

// What samples need beside tensors, for an evaluation of that many clips at a time.
Session::SampleNeeds Session::needs_of_samples(const SampleBounds& train, std::int64_t eval_microbatch) const {
  const std::int64_t size = pipeline.batch.size.value;
  SampleNeeds needs;
  BudgetNeeds& all = needs.bytes;
  all.useful_samples = 0;
  std::vector<Demand> demands;
  if (train_assembler) demands.push_back({chunking.on() ? 1 : size, train});
  if (eval_assembler) demands.push_back({chunking.on() ? 1 : eval_microbatch, bounds_of(Split::val, eval_microbatch)});
  set_smallest(all, demands, allowed_failures() - static_cast<std::int64_t>(dataset->failed().size()));
  for (const auto& [batch, bounds] : demands) {
    // Two batches ahead, one at work, and a clip for each worker.
    const auto ahead = most_batches * static_cast<std::uint64_t>(batch) * bounds.place + static_cast<std::uint64_t>(2 * workers_of(pipeline.budget) + 2) * bounds.largest;
    needs.largest = std::max(needs.largest, bounds.largest);
    needs.decoders = std::max(needs.decoders, bounds.decoders);
    needs.batch = std::max(needs.batch, static_cast<std::uint64_t>(batch) * bounds.place);
    all.useful_samples = std::max({all.useful_samples, ahead, bounds.smallest_all});
  }
  return needs;
}

std::int64_t Session::batches_within(std::uint64_t samples, std::uint64_t places) {
  return static_cast<std::int64_t>(std::clamp<std::uint64_t>(samples / std::max<std::uint64_t>(1, places), 1, most_batches));
}

// What would make a pipeline fit that does not, beside a larger budget: what changes nothing that is learnt first. `room`: of gradients and activations.
std::string Session::smaller_hint(std::uint64_t room) const {
  if (!train_assembler) return {};
  if (chunking.on())
    return fmt::format("; or plan.chunk = {}, which learns the same up to rounding{}", std::max(model->temporal_stride(), chunking.frames / 2 / model->temporal_stride() * model->temporal_stride()),
                       limits_.checkpoint.mode == SegmentChoice::Mode::none ? ", or plan.checkpoint = true, which learns the same" : "");
  const auto& norm = pipeline.model.batch_norm;
  const bool may_cut = model->batch_norms(false) == 0 || norm.mode == BatchNormConfig::Mode::frozen;
  std::vector<std::string> pins;
  // Where it is pinned: that may be the file of --plan.
  const auto open = [](const char* key, const Place& place) { return fmt::format("{} = \"auto\"{}", key, place.text().empty() ? "" : fmt::format(" (it is pinned by {})", place.text())); };
  if (limits_.checkpoint.mode == SegmentChoice::Mode::none || limits_.checkpoint.mode == SegmentChoice::Mode::named) pins.push_back(open("plan.checkpoint", limits_.checkpoint.place));
  if (may_cut && planned.whole_because.empty() && pipeline.batch.microbatch.value > 1) pins.push_back(open("batch.microbatch", pipeline.batch.microbatch.place));
  if (!pins.empty()) return fmt::format("; or {}, which {} the same", join(pins, " and "), pins.size() == 1 ? "learns" : "learn");
  if (!planned.whole_because.empty()) return "; " + planned.whole_because + ": with pass.dropout, and batch norm that is counted, it could be cut";
  if (may_cut && limits_.microbatches.size() == 1 && limits_.microbatches.front() > 1) return fmt::format("; the run that is resumed takes {} at a time", limits_.microbatches.front());
  if (may_cut) return {};
  const std::int64_t whole = limits_.microbatches.back();
  if (!planned.model || whole < 2) return {};
  std::int64_t group = whole - 1;
  // The gradients of earlier groups live beside each.
  while (group > 0 && with_margin(planned.model->smallest(group).peak) + planned.needs.gradients > room) --group;
  if (group == 0) return {};
  if (norm.mode == BatchNormConfig::Mode::group) return fmt::format("; or model.batch_norm = {{ group = {} }}, which is another network", group);
  return fmt::format("; or, as batch norm over the whole batch keeps it in one piece: model.batch_norm = {{ group = {} }} (statistics over {} at a time), or \"frozen\"", group,
                     counted(static_cast<std::uint64_t>(group), "clip"));
}

// What this process holds is part of its budget.
std::uint64_t Session::budget_bytes() const { return pipeline.budget.host_ram.value != 0 ? pipeline.budget.host_ram.value : (free_memory() + resident_bytes()) / 10 * 8; }

// Host memory for activations that wait there, while it is found out what a plan needs; 0: none may.
std::uint64_t Session::offload_room() const {
  const auto mode = pipeline.plan.offload.mode;
  if (mode == SegmentChoice::Mode::none || (mode == SegmentChoice::Mode::automatic && device_memory() == 0)) return 0;
  return NeedsMeter::to_spare();
}

// On a device other than the CPU the library's kernels are used as they are.
void Session::check_kernels(NeedsMeter& meter, Reporter& reporter, const Options& options) {
  if (!arithmetic.reduced() || !device.is_cpu()) return;
  const auto left = [this] { return budget_bytes() - std::min(budget_bytes(), resident_bytes()); };
  // Where not even a forward pass fits the run will be refused: what it would need is found out with the kernels that it would have.
  const bool fits = !meter.kernels(left()).empty();
  const auto& calls = fits ? meter.kernels(left()) : meter.kernels(NeedsMeter::to_spare());
  CappedAllocator::install().trim();
  AuditOptions how;
  how.program = "/proc/self/exe";
  how.cache = cache;
  how.spare = NeedsMeter::to_spare();
  how.child_memory = fits ? left() : how.spare;
  how.threads = pipeline.budget.compute_threads.value;
  how.progress = [&](double fraction) {
    if (options.progress) options.progress();
    reporter.progress(fmt::format("checking the kernels in {}", name_of(arithmetic.precision)), fraction);
  };
  const auto audit = audit_kernels(calls, how);
  if (audit.child_needs > 0) {
    const std::uint64_t needed = with_margin(resident_bytes() + audit.child_needs);
    throw BudgetError(needed,
                      fmt::format("the budget is too small for the first start in {}: host_ram is {}, and the check of the network's kernels, in a process beside this one, needs {} of both together", name_of(arithmetic.precision),
                                  format_bytes(budget_bytes()), format_bytes(needed)),
                      fmt::format("check them once with more: sluice check with budget.host_ram={} (at least {} bytes); what is found out is kept, and later starts need no more than sluice plan says", bytes_to_write(needed), needed),
                      pipeline.budget.host_ram.place.text());
  }
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
  // A smaller chunk saves as much.
  for (auto* choice : {&limits_.checkpoint, &limits_.offload})
    if (choice->mode == SegmentChoice::Mode::automatic) choice->mode = SegmentChoice::Mode::none;
  use_chunks(frames);
  try {
    check_radius(*model, train_assembler ? *train_assembler : *eval_assembler, chunking);
  } catch (const Error& error) {
    throw error.at(pipeline.model.plugin.place.text() + ": " + pipeline.model.plugin.plugin);
  }
}

void Session::fit(Reporter& reporter, const Options& options) {
  // What loading, reading headers and building left behind is no part of the base, at this start or a later one.
  malloc_trim(0);
  give_back_pages_of_libraries();
  const std::uint64_t host_ram = budget_bytes(), there_is = free_memory() + resident_bytes();
  // A cgroup of exactly the budget counts a few pages of the kernel too.
  if (there_is < host_ram / 20 * 19)
    log::warning("budget.host_ram is {}, and this process can have {} here: the system may end it without a word (sluice doctor says who has the rest)", format_bytes(host_ram), format_bytes(there_is));
  for (const Split split : {Split::train, Split::val})
    if (model->temporal_radius() && (split == Split::train ? train_assembler : eval_assembler)) longest_clip_ = std::max(longest_clip_, longest_clip(*dataset, stages, split));
  const auto all = chunks_to_try(*model, pipeline.plan.chunk, options.saved_chunk, longest_clip_);
  if (all.size() > 1) return fit_chunks(all, reporter, options);
  if (all.front() > 0) cut_clips(all.front());
  fit_into_budget(reporter, options);
  for (const auto& line : why_routed_) reporter.note(line);
}

// The smallest chunk says what is the least that works; the first that fits is taken.
void Session::fit_chunks(const std::vector<std::int64_t>& all, Reporter& reporter, const Options& options) {
  cut_clips(all.back());
  fit_into_budget(reporter, options);
  const std::uint64_t smallest = budget.smallest;
  const TrainingPlan plan = planned.smallest;
  const TensorNeeds needs = planned.smallest_needs;
  of_smaller_ = needs;
  for (const auto frames : all) {
    if (frames == all.back()) of_smaller_.reset();
    CappedAllocator::install().set_cap(0);
    cut_clips(frames);
    try {
      fit_into_budget(reporter, options);
    } catch (const BudgetError&) {
      if (frames == all.back()) throw;
      continue;
    }
    if (smallest <= budget.smallest) {
      budget.smallest = smallest;
      planned.smallest = plan;
      planned.smallest_needs = needs;
    }
    break;
  }
  for (const auto& line : why_routed_) reporter.note(line);
}

void Session::fit_into_budget(Reporter& reporter, const Options& options) {
  const std::uint64_t host_ram = budget_bytes();
  const std::int64_t size = pipeline.batch.size.value;
  const SampleBounds train = train_assembler ? bounds_of(Split::train, size) : SampleBounds{};
  std::map<std::int64_t, SampleNeeds> of_samples;
  const auto samples_for = [&](std::int64_t eval_microbatch) -> const SampleNeeds& {
    const auto known = of_samples.find(eval_microbatch);
    return known != of_samples.end() ? known->second : of_samples.emplace(eval_microbatch, needs_of_samples(train, eval_microbatch)).first->second;
  };

  measure_card();
  NeedsRequest request;
  request.device = device;
  request.model = model.get();
  request.loss = loss.get();
  request.optimizer = optimizer.get();
  request.train = train_assembler.get();
  request.eval = eval_assembler.get();
  request.batch_size = size;
  request.classes = classes();
  request.norms_decide = pipeline.model.batch_norm.mode != BatchNormConfig::Mode::frozen && model->batch_norms(false) > 0;
  request.one_pass = limits_.one_pass();
  request.arithmetic = arithmetic;
  request.chunking = chunking;
  request.clip_frames = longest_clip_;
  request.store = offload_room();
  request.largest = limits_.microbatches.front();
  request.may_start_afresh = options.training;
  request.after_probing = began_afresh();
  request.of_smaller = of_smaller_ ? &*of_smaller_ : nullptr;
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
  const std::int64_t most_workers = workers_of(pipeline.budget), least_workers = pipeline.budget.workers.value > 0 ? most_workers : 1;
  wanted.reserve = reserve_bytes(least_workers);
  wanted.device_memory = device_memory();
  wanted.tensors_in_host = device.is_cpu();
  wanted.samples = [&](std::int64_t eval_microbatch) {
    const BudgetNeeds& bytes = samples_for(eval_microbatch).bytes;
    return SampleRoom{bytes.smallest_samples, bytes.useful_samples + reserve_bytes(most_workers) - wanted.reserve};
  };
  step_times = StepTimes(cache, needs_key(options));
  wanted.times = &step_times;
  // What it keeps of the small passes would be there in the run, and not at the next start.
  if (options.training)
    wanted.probed = [&] {
      if (may_begin_afresh() && meter.remember()) throw StartAfresh{};
    };
  planned = make_plan(meter, wanted);
  if (meter.passes() > 0) reporter.progress("measuring what the network needs", 1);
  meter.remember();
  if (const auto& norm = meter.beside_pass().norm; train_assembler && !norm.empty())
    log::warning("{} takes statistics over the batch and counts as no batch norm: what it holds is neither trained nor saved where its module is not registered (register_module), and an evaluation takes its statistics anew, over "
                 "as many clips as it gets at once", norm);
  if (chunking.on()) {
    planned.plan.chunk = planned.smallest.chunk = chunking.frames;
    planned.why = fmt::format("clips of up to {} frames, {} at a time and {} more on each side", longest_clip_, chunking.frames, chunking.halo);
  }

  const std::uint64_t buffer = train_assembler ? checkpoint_buffer(*model, *optimizer) : 0;
  const auto all_of = [&](const TrainingPlan& what, const TensorNeeds& tensors, std::int64_t threads) {
    const SampleNeeds& of_samples_now = samples_for(what.eval_microbatch);
    BudgetNeeds all = of_samples_now.bytes;
    all.most.batches = most_batches * of_samples_now.batch;
    all.most.decoders = static_cast<std::uint64_t>(threads) * of_samples_now.decoders;
    all.what_batches = fmt::format("up to {} of {}", most_batches, format_bytes(of_samples_now.batch));
    all.what_decoders = fmt::format("{} at work, {}", threads, threads == 1 ? format_bytes(of_samples_now.decoders) : format_bytes(of_samples_now.decoders) + " each");
    if (device.is_cpu()) all.checkpoint_buffer = buffer;
    else all[Account::checkpoint] = buffer;
    all[Account::reserve] = reserve_bytes(threads);
    all.start = tensors.start;
    all[Account::base] = tensors.base;
    all[Account::runtime] = tensors.runtime;
    all[Account::offload] = tensors.offload;
    if (!device.is_cpu()) return all;
    all[Account::parameters] = tensors.parameters;
    all[Account::gradients] = tensors.gradients;
    all[Account::optimizer] = tensors.optimizer;
    all[Account::activations] = tensors.activations;
    all.reuse = CappedAllocator::reuse_above(tensors.tensors());
    return all;
  };
  const std::string where = pipeline.budget.host_ram.place.text();
  const auto& least = planned.smallest_needs;
  try {
    const std::uint64_t smallest = divide_budget(host_ram, all_of(planned.smallest, least, least_workers), where).smallest;
    workers = workers_that_fit(host_ram, pipeline.budget, all_of(planned.plan, planned.needs, 1), samples_for(planned.plan.eval_microbatch).largest);
    budget = divide_budget(host_ram, all_of(planned.plan, planned.needs, workers), where);
    budget.smallest = smallest;
  } catch (const BudgetError& error) {
    const std::uint64_t lasting = device.is_cpu() ? least.parameters + least.optimizer : 0;
    const std::uint64_t runtime = std::max(least.runtime, planned.foreseen_runtime);
    const std::uint64_t beside = least.base + runtime + lasting + least.offload + wanted.reserve + samples_for(planned.smallest.eval_microbatch).bytes.smallest_samples;
    throw BudgetError(error.smallest(), error.message(), error.hint() + smaller_hint(host_ram - std::min(host_ram, beside)), error.where());
  }
  const std::uint64_t device_memory = this->device_memory();
  if (device_memory > 0 && planned.smallest_tensors > device_memory)
    throw BudgetError(budget.smallest,
                      fmt::format("budget.device_memory leaves {} for tensors, and those of this pipeline need {} (parameters {}, gradients {}, optimizer {}, activations {})", format_bytes(device_memory),
                                  format_bytes(least.tensors()), format_bytes(least.parameters), format_bytes(least.gradients), format_bytes(least.optimizer), format_bytes(least.activations)),
                      fmt::format("set device_memory = \"{}\" (at least {} bytes), or need less: fewer or smaller frames, a smaller model", bytes_to_write(smallest_device_memory()), smallest_device_memory()) +
                          smaller_hint(device_memory - std::min(device_memory, least.parameters + least.optimizer)),
                      pipeline.budget.device_memory.place.text());
  batch_places_ = samples_for(planned.plan.eval_microbatch).batch;
  const std::uint64_t cap = (device.is_cpu() ? planned.needs.tensors() : 0) + budget.reuse + budget.unused;
  CappedAllocator::install().set_cap(device.is_cpu() && device_memory > 0 ? std::min(cap, device_memory) : cap);
  OffloadStore::instance().set_cap(planned.needs.offload);
  samples = std::make_unique<Ledger>(budget.samples);
  runtime_ = planned.needs.runtime;
}

void Session::measure_card() {
  if (device.is_cpu()) return;
  const TensorMemory memory(device);
  memory.trim();
  const auto [total, free] = card_memory(device);
  const std::uint64_t held = memory.counters().held, used = total - std::min(total, free), not_ours = used - std::min(used, held);
  std::uint64_t others = 0;
  for (const auto& user : others_on(device)) others += user.bytes;
  beside_tensors_ = not_ours - std::min(not_ours, others);
  const std::uint64_t given = pipeline.budget.device_memory.value, most = free + held;
  of_card_ = given == 0 ? most : std::min(most, std::max<std::uint64_t>(given - std::min(given, beside_tensors_), 1));
}

Change Session::more_memory(std::uint64_t pass) const {
  const auto& needs = planned.needs;
  // With more memory all workers get their share before the tensors get what is left.
  const auto bytes = needs.base + with_margin(needs.runtime) + other_passes + needs.parameters + needs.optimizer + needs.offload + reserve_bytes(workers_of(pipeline.budget)) + budget.useful + with_margin(pass);
  const auto tensors = needs.parameters + needs.optimizer + with_margin(pass);
  const std::string seen = fmt::format("learns the same bit for bit: this batch went through with {} for its pass", format_bytes(pass));
  if (const auto most = device_memory(); most > 0 && most < tensors && bytes <= budget.host_ram)
    return {"budget.device_memory", fmt::format("\"{}\"", bytes_to_write(tensors)), seen};
  return {"budget.host_ram", fmt::format("\"{}\"", bytes_to_write(bytes)), seen};
}

std::vector<std::int64_t> Session::microbatches_if_open() const {
  if (!planned.whole_because.empty()) return {};
  Pipeline open = pipeline;
  open.batch.microbatch.value = 0;
  const bool frozen = pipeline.model.batch_norm.mode == BatchNormConfig::Mode::frozen;
  return plan_limits(open, frozen ? 0 : model->batch_norms(false)).microbatches;
}

}  // namespace sluice
