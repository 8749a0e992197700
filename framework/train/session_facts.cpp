// What a session says of itself: to a person, to the log, to a checkpoint.
#include <algorithm>

#include <ATen/core/Tensor.h>
#include <fmt/format.h>
#include <torch/version.h>

#include "framework/base/bytes.hpp"
#include "framework/base/strings.hpp"
#include "framework/config/tables.hpp"
#include "framework/config/toml.hpp"
#include "framework/memory/process.hpp"
#include "framework/state/files.hpp"
#include "framework/state/hash.hpp"
#include "framework/train/capped_allocator.hpp"
#include "framework/train/device.hpp"
#include "framework/train/offload_store.hpp"
#include "framework/train/session.hpp"

namespace sluice {

std::string Session::plan_toml() const {
  const auto& plan = planned.plan;
  const auto value_of = [](const Segments& segments) {
    List names;
    for (const auto& name : segments.names) names.push_back({name, {}});
    return segments.all ? "true" : names.empty() ? "false" : toml_text(Value{names, {}});
  };
  std::string text = fmt::format("# {}\n# host_ram = \"{}\"; the least that works: \"{}\"\n# The same plan again: sluice train FILE --plan plan.toml{}\n", planned.why,
                                 bytes_to_write(budget.host_ram), bytes_to_write(budget.smallest),
                                 pipeline.budget.device_memory.value > 0 ? fmt::format(" budget.device_memory={}", bytes_to_write(pipeline.budget.device_memory.value)) : std::string());
  text += fmt::format("[run]\nprecision = \"{}\"\n\n[budget]\nworkers = {}\ncompute_threads = {}\n# batches in flight: {}, which follow from the bytes\n\n", name_of(arithmetic.precision), workers, pipeline.budget.compute_threads.value,
                      batches_in_flight());
  text += fmt::format("[batch]\nmicrobatch = {}\n\n", plan.microbatch);
  if (eval_assembler) text += fmt::format("[eval]\nmicrobatch = {}\n\n", plan.eval_microbatch);
  text += fmt::format("[plan]\ncheckpoint = {}\noffload = {}\nlayout = \"{}\"\n", value_of(plan.segments.twice), value_of(plan.segments.offload), wants_channels_last(pipeline) ? "channels_last" : "contiguous");
  if (model->temporal_radius()) text += fmt::format("chunk = {}\n", chunking.on() ? chunking.frames : std::max<std::int64_t>(1, longest_clip_));  // as long as the longest: whole
  return text;
}

void Session::measure_runtime() {
  const auto now = CappedAllocator::install().counters();
  const auto stored = OffloadStore::instance().counters();
  const std::uint64_t known = planned.needs.base + now.live + now.kept + stored.live + stored.kept + (samples ? samples->used() : 0), resident = resident_bytes();
  runtime_ = resident - std::min(resident, known);
}

AccountBytes Session::accounts(bool peak) const {
  const auto now = CappedAllocator::install().counters();
  AccountBytes bytes{};
  const auto set = [&](Account account, std::uint64_t value) { bytes[static_cast<std::size_t>(account)] = value; };
  set(Account::base, planned.needs.base);
  set(Account::runtime, runtime_);
  set(Account::parameters, now.of(Account::parameters));
  set(Account::optimizer, now.of(Account::optimizer));
  const std::uint64_t others = now.of(Account::parameters) + now.of(Account::optimizer);
  const std::uint64_t gradients = peak ? planned.needs.gradients : now.of(Account::gradients);
  const std::uint64_t total = peak ? now.footprint : now.live + now.kept;  // blocks that wait for reuse are resident too
  set(Account::gradients, std::min(gradients, total - std::min(total, others)));
  set(Account::activations, total - std::min(total, others + gradients));
  const auto stored = OffloadStore::instance().counters();
  set(Account::offload, peak ? stored.peak : stored.live + stored.kept);
  if (!samples) return bytes;
  const SampleBytes of_samples = peak ? samples->split_at_peak() : samples->split();
  set(Account::decoders, of_samples.decoders);
  set(Account::samples, of_samples.samples);
  set(Account::batches, of_samples.batches);
  return bytes;
}

std::vector<std::pair<std::string, std::string>> Session::facts() const {
  std::int64_t parameters = 0;
  for (const auto& weight : model->weights()) parameters += weight.tensor.numel();
  std::vector<std::pair<std::string, std::string>> out;
  out.emplace_back("device", fmt::format("{}, {} for the network, {} for the data", device.str(), counted(static_cast<std::uint64_t>(pipeline.budget.compute_threads.value), "thread"),
                                         counted(static_cast<std::uint64_t>(workers), "thread")));
  out.emplace_back("data", fmt::format("{}: {} to train, {} to evaluate, {}", pipeline.data.plugin, with_commas(static_cast<std::uint64_t>(dataset->samples(Split::train))),
                                       with_commas(static_cast<std::uint64_t>(dataset->samples(Split::val))),
                                       classes() == 1 ? "1 class" : fmt::format("{} classes", classes())));
  out.emplace_back("model", fmt::format("{}, {} parameters{}", pipeline.model.plugin.plugin, with_commas(static_cast<std::uint64_t>(parameters)),
                                        arithmetic.reduced() ? fmt::format(", computed in {}, kept in fp32", name_of(arithmetic.precision)) : ""));
  if (train_assembler) {
    const std::int64_t size = pipeline.batch.size.value;
    std::string batch = counted(static_cast<std::uint64_t>(size), "clip");
    if (chunking.on()) batch += fmt::format(", of up to {} frames, {} at a time and {} more on each side", with_commas(static_cast<std::uint64_t>(longest_clip_)), chunking.frames, chunking.halo);
    else if (const auto each = planned.plan.microbatch; each < size) batch += fmt::format(", {} at a time{}", each, size % each == 0 ? "" : fmt::format(" and {} the last time", size % each));
    if (!planned.whole_because.empty()) batch += "; " + planned.whole_because;
    if (planned.plan.segments.twice.any()) batch += ", computed twice: " + text_of(planned.plan.segments.twice);
    if (planned.plan.segments.offload.any()) batch += ", offloaded: " + text_of(planned.plan.segments.offload);
    out.emplace_back("batch", batch);
    if (pipeline.optimizer.lr_base_batch.value > 0)
      out.emplace_back("learning rate", fmt::format("lr {} x {}/{} = {:.6g}", optimizer->learning_rate(), size, pipeline.optimizer.lr_base_batch.value, scaled_learning_rate()));
  }
  out.emplace_back("memory", fmt::format("{} of host memory, {} of it for samples; the least that works: {}", format_bytes(budget.host_ram), format_bytes(budget.samples),
                                         bytes_to_write(budget.smallest)));
  return out;
}

RunState Session::state(const TrainRequest& request) const {
  RunState state;
  state.seed = pipeline.run.seed.value;
  state.microbatch = planned.plan.microbatch;
  state.chunk = chunking.frames;
  state.compute_threads = pipeline.budget.compute_threads.value;
  state.layout = wants_channels_last(pipeline) ? "channels_last" : "contiguous";
  state.device = kind_of(device);
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

}  // namespace sluice
