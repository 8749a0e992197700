// The declaration of every key of the host. The order is that of the reference page and of a run's pipeline.toml.
#include "framework/config/keys.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "framework/base/bytes.hpp"
#include "framework/base/strings.hpp"

namespace sluice {
namespace {

using Presence = KeyVisitor::Presence;
using abi::Kind;

constexpr std::int64_t most_threads = 1024;
constexpr std::int64_t most_samples = 1 << 20;
constexpr std::int64_t most_steps = std::int64_t{1} << 53;

std::string name_problem(const std::string& name) {
  if (name.empty()) return "it is empty";
  if (name.size() > 200) return "it is longer than 200 bytes";
  if (name == "." || name == ".." || name.find('/') != std::string::npos) return "it names a folder, so it holds no / and is not . or ..";
  for (const char c : name)
    if (static_cast<unsigned char>(c) < 0x20) return "it holds a control character";
  return {};
}

std::string device_problem(const std::string& device) {
  if (device == "auto" || device == "cpu") return {};
  const bool numbered = device.starts_with("cuda:") && device.size() > 5 && device.size() <= 8 &&
                        device.find_first_not_of("0123456789", 5) == std::string::npos;
  return numbered ? std::string() : "it is one of auto, cpu, cuda:0, cuda:1, ...";
}

void visit(KeyVisitor& v, RunConfig& run) {
  v.begin("run", "The run: its name, its length, where it computes.", Presence::always, true);
  v.key("name", run.name, "names the run; its folder is runs/NAME. Default: the name of the pipeline file", TextRule{{}, name_problem, "text without /"});
  v.key("dir", run.dir, "folder for checkpoints, logs and metrics. Default: runs/NAME in the current folder");
  v.key("seed", run.seed, "decides everything that is drawn: order, augmentation, weights, dropout", WholeRule{0});
  v.key("epochs", run.epochs, "passes over the training samples; give epochs or steps", WholeRule{1, 1000000});
  v.key("steps", run.steps, "optimizer steps; give epochs or steps", WholeRule{1, most_steps});
  v.key("device", run.device, "where the model runs: auto (the first GPU, else cpu), cpu, cuda:N", TextRule{{}, device_problem, "auto, cpu, cuda:N"});
  v.key("precision", run.precision, "of the matrix products and convolutions of the forward and backward pass; weights, losses and the optimizer stay fp32");
  v.key("deterministic", run.deterministic, "refuse kernels whose result depends on timing (CUDA; the CPU has none)");
  v.key("max_failures", run.max_failures, "samples that may fail before the run ends with exit code 4: below 1 a share of an epoch, from 1 on a number", RealRule{0, 1e9});
  v.key("watchdog", run.watchdog, "seconds without any progress until the run ends with exit code 6; 0: never", RealRule{0, 86400});
  v.end();
}

void visit(KeyVisitor& v, BudgetConfig& budget) {
  v.begin("budget", "What the process may use. Never exceeded; a pipeline that cannot fit is refused before the first frame is decoded.", Presence::always, true);
  v.key("host_ram", budget.host_ram, "memory of the whole process; auto: 0.8 of what the machine or cgroup has free", BytesRule{16 * MiB});
  v.key("device_memory", budget.device_memory, "memory of this process on the device, as its driver reports it; auto: what is free. On the CPU it bounds the tensors, within host_ram: the plan of a card, tried without one", BytesRule{16 * MiB});
  v.key("workers", budget.workers, "threads that decode and augment; auto: one for each core, fewer where host_ram has no room for them", WholeRule{1, most_threads, "auto"});
  v.key("compute_threads", budget.compute_threads, "threads of the model on the CPU. They change the last bits of the result, so a resume with another number is refused", WholeRule{1, most_threads});
  v.key("in_flight", budget.in_flight, "samples between source and trainer at once; auto: as many as the bytes allow", WholeRule{1, most_samples, "auto"});
  v.end();
}

void visit(KeyVisitor& v, std::vector<StageConfig>& stages) {
  const std::size_t n = v.items("stage", "What is done to a sample, in order: choice of frames, decoding, augmentation.", stages.size());
  stages.resize(n);
  for (std::size_t i = 0; i < n; ++i) {
    v.begin_item(i);
    v.key("on", stages[i].on, "streams that it works on, e.g. [\"front\", \"left\"]");
    v.key("only", stages[i].only, "in which passes it runs; without it in both", TextRule{"train|eval"});
    v.key("independent", stages[i].independent, "draw for each stream of `on` by itself instead of once for all");
    v.plugin(stages[i].plugin, {Kind::frames, Kind::decoder, Kind::stage});
    v.end();
  }
}

void visit(KeyVisitor& v, BatchConfig& batch) {
  v.begin("batch", "The clips of one optimizer step.", Presence::always, true);
  v.key("size", batch.size, "clips in an optimizer step; nothing changes it, however little memory there is", WholeRule{1, most_samples});
  v.key("microbatch", batch.microbatch, "clips in one forward and backward pass; gradients add up to those of the whole batch. auto: as many as fit into the budget; the whole batch, or the group of model.batch_norm, where batch norm wants it", WholeRule{1, most_samples, "auto"});
  v.key("drop_last", batch.drop_last, "leave out the last batch of an epoch when it is smaller");
  v.end();
}

void visit(KeyVisitor& v, ModelConfig& model) {
  v.begin("model", "The network and what goes into it.", Presence::always, true);
  v.begin("input", "How frames become the model's input, in one pass when a microbatch is assembled.", Presence::always, true);
  v.key("mean", model.input.mean, "of each channel scaled to 0..1, subtracted. Default: none", RealRule{-1e6, 1e6});
  v.key("std", model.input.std, "of each channel scaled to 0..1, divided by. Default: none", RealRule{0, 1e6, true});
  v.key("layout", model.input.layout, "of the tensors in memory", TextRule{"auto|contiguous|channels_last"});
  v.end();
  v.key("weights", model.weights, "a .safetensors file that the weights start from, by name. Default: random weights");
  v.key("batch_norm", model.batch_norm, "over what batch norm takes its statistics: \"batch\" (the whole logical batch), { group = N } (N clips), \"frozen\" (the running ones)");
  v.plugin(model.plugin, {Kind::model});
  v.end();
}

void visit(KeyVisitor& v, OptimizerConfig& optimizer) {
  v.begin("optimizer", "How gradients change weights.", Presence::always, true);
  v.key("lr_base_batch", optimizer.lr_base_batch, "batch size that lr is meant for: lr is multiplied by batch.size / lr_base_batch; 0: lr as it stands", RealRule{0, 1e9});
  v.key("clip_norm", optimizer.clip_norm, "largest norm of all gradients together; 0: no clipping", RealRule{0, 1e30});
  v.plugin(optimizer.plugin, {Kind::optimizer});
  v.end();
}

void visit(KeyVisitor& v, EvalConfig& eval) {
  v.begin("eval", "Passes over the val split.", Presence::always, true);
  v.key("every", eval.every, "epochs from one evaluation to the next; 0: only at the end", WholeRule{0, 1000000});
  v.key("clips", eval.clips, "clips of each video, whose scores are averaged", WholeRule{1, 10000});
  v.key("microbatch", eval.microbatch, "clips in one forward pass; auto: that of the training, or fewer where they do not fit", WholeRule{1, most_samples, "auto"});
  v.key("best", eval.best, "the metric that names the best checkpoint, e.g. accuracy.top1; with a - in front lower is better. Default: the first metric");
  v.key("patience", eval.patience, "evaluations without a better one until the run ends; 0: it never does", WholeRule{0, 1000000});
  v.key("average", eval.average, "what is averaged over the clips of a video: probabilities or scores", TextRule{"prob|score"});
  v.end();
}

void visit(KeyVisitor& v, CheckpointConfig& checkpoint) {
  v.begin("checkpoint", "Saved state, from which a run goes on bit for bit.", Presence::always, true);
  v.key("every", checkpoint.every, "optimizer steps from one to the next; 0: after every epoch", WholeRule{0, most_steps});
  v.key("keep", checkpoint.keep, "how many are kept, beside the best", WholeRule{1, 10000});
  v.end();
}

}  // namespace

void visit_pipeline(KeyVisitor& v, Pipeline& pipeline) {
  visit(v, pipeline.run);
  visit(v, pipeline.budget);
  v.begin("data", "What there is to train and evaluate on.", Presence::always, true);
  v.plugin(pipeline.data, {Kind::source});
  v.end();
  visit(v, pipeline.stages);
  visit(v, pipeline.batch);
  visit(v, pipeline.model);
  v.begin("loss", "What is made small.", Presence::always, true);
  v.plugin(pipeline.loss, {Kind::loss});
  v.end();
  visit(v, pipeline.optimizer);
  if (v.begin("schedule", "How the learning rate changes. Without it: not at all.", Presence::optional, pipeline.schedule.has_value())) {
    if (!pipeline.schedule) pipeline.schedule.emplace();
    v.plugin(*pipeline.schedule, {Kind::schedule});
    v.end();
  }
  pipeline.metrics.resize(v.items("metric", "What is measured in training and evaluation.", pipeline.metrics.size()));
  for (std::size_t i = 0; i < pipeline.metrics.size(); ++i) {
    v.begin_item(i);
    v.plugin(pipeline.metrics[i], {Kind::metric});
    v.end();
  }
  visit(v, pipeline.eval);
  visit(v, pipeline.checkpoint);
  v.begin("plan", "How the model is fitted into the budget. \"auto\", or pinned: then honoured or refused.", Presence::always, true);
  v.key("checkpoint", pipeline.plan.checkpoint, "segments whose activations are computed again in the backward pass");
  v.key("offload", pipeline.plan.offload, "segments whose activations wait in host memory while the device works");
  v.key("chunk", pipeline.plan.chunk, "frames of a long video that go through the network at once, where the model allows it (docs/long-videos.md). auto: clips of up to 64 frames stay whole, longer ones go by 64, 32 or 16, the first that fits", WholeRule{1, most_samples, "auto"});
  v.key("layout", pipeline.plan.layout, "of the weights in memory", TextRule{"auto|contiguous|channels_last"});
  v.end();
  v.begin("plugins", "Where plugins are looked for, beside those that came with sluice.", Presence::always, true);
  v.key("path", pipeline.plugin_paths, "folders of plugins, or single files; later ones win. Never the current folder by itself");
  v.end();
  v.begin("env", "Environment variables that are set before the libraries of the model start.", Presence::always, true);
  v.free_keys(pipeline.environment, "NAME = \"value\"");
  v.end();
}

}  // namespace sluice
