// The table of foreign keys. Names of Lightning, the Hugging Face Trainer, mmaction2, MindSpore and of scripts built on them.
#include "framework/config/foreign_keys.hpp"

#include <array>
#include <utility>

#include "framework/base/strings.hpp"
#include "framework/config/tables.hpp"

namespace sluice {
namespace {

using Entry = std::pair<std::string_view, std::string_view>;

constexpr std::string_view batch = "batch.size is what an optimizer step sees, batch.microbatch what is computed at once: write batch.size = (old batch size x accumulation) and batch.microbatch = (old batch size)";
constexpr std::string_view checkpointing = "write plan.checkpoint = true, or \"auto\"";
constexpr std::string_view workers = "write budget.workers: threads of one process, at least 1. They cost no copies of the data";
constexpr std::string_view loader = "there are no loader processes: queues are bounded by budget.host_ram, and by budget.in_flight in samples. Leave it out";
constexpr std::string_view pinned = "pinned memory is taken where it pays and counted in the budget: leave it out";
constexpr std::string_view precision = "write run.precision = \"bf16\" or \"fp16\"; weights and losses stay fp32";
constexpr std::string_view device = "write run.device = \"auto\", \"cpu\" or \"cuda:0\"";
constexpr std::string_view folder = "write run.dir";
constexpr std::string_view resume = "it is a flag of the command: sluice train FILE --resume";
constexpr std::string_view weights = "write model.weights = \"file.safetensors\"";
constexpr std::string_view clip = "write optimizer.clip_norm";
constexpr std::string_view frames = "the choice of frames is a stage of its own, frames.uniform or frames.dense: set its `frames`";
constexpr std::string_view stride = "the choice of frames is a stage of its own: set `stride` of frames.dense";
constexpr std::string_view size = "sizes are stages: augment.resize, augment.random_crop, augment.center_crop; or short_side of the decoder";
constexpr std::string_view modality = "leave out the stages of the stream that is not wanted: it is then never decoded";
constexpr std::string_view chunk = "write plan.chunk (frames of one pass), or batch.microbatch (clips of one pass)";
constexpr std::string_view evaluate = "write eval.every (epochs)";
constexpr std::string_view device_memory = "write budget.device_memory = \"6GiB\"";
constexpr std::string_view memory_unneeded = "budget.host_ram and budget.device_memory bound all memory: leave it out";
constexpr std::string_view base_batch = "write optimizer.lr_base_batch = (the batch size that lr is meant for)";

constexpr std::array entries = std::to_array<Entry>({
    {"accumulate_grad_batches", batch}, {"gradient_accumulation_steps", batch}, {"accumulative_counts", batch}, {"accumulation_steps", batch},
    {"grad_accum", batch}, {"accum", batch}, {"update_interval", batch},
    {"batch_size", "write batch.size (clips in an optimizer step); batch.microbatch is what is computed at once"},
    {"train_batch_size", "write batch.size"}, {"per_device_train_batch_size", batch}, {"samples_per_gpu", batch}, {"videos_per_gpu", batch},
    {"micro_batch_size", "write batch.microbatch"}, {"video_batch_size", chunk}, {"eval_batch_size", "write eval.microbatch"},
    {"per_device_eval_batch_size", "write eval.microbatch"}, {"val_batch_size", "write eval.microbatch"},
    {"gradient_checkpointing", checkpointing}, {"use_gradient_checkpointing", checkpointing}, {"with_cp", checkpointing},
    {"activation_checkpointing", checkpointing}, {"checkpoint_num", checkpointing},
    {"num_workers", workers}, {"workers_per_gpu", workers}, {"dataloader_num_workers", workers}, {"num_io_threads", workers}, {"num_parallel_workers", workers},
    {"num_threads", "write budget.workers (stages) or budget.compute_threads (the model)"}, {"threads", "write budget.workers (stages) or budget.compute_threads (the model)"},
    {"max_epochs", "write run.epochs"}, {"num_epochs", "write run.epochs"}, {"num_train_epochs", "write run.epochs"}, {"epoch", "write run.epochs"}, {"total_epochs", "write run.epochs"},
    {"max_steps", "write run.steps"}, {"max_iters", "write run.steps"}, {"num_steps", "write run.steps"}, {"limit_train_batches", "write run.steps for a short run"},
    {"pin_memory", pinned}, {"dataloader_pin_memory", pinned},
    {"persistent_workers", loader}, {"prefetch_factor", loader}, {"prefetch_size", loader}, {"prefetch", loader}, {"buffer_size", loader},
    {"shuffle_buffer", "every epoch is a full permutation of the samples, without a buffer: leave it out"},
    {"shuffle", "training is shuffled by run.seed, evaluation is not: leave it out"},
    {"max_rowsize", memory_unneeded}, {"mempool_block_size", memory_unneeded}, {"enable_memory_cleanup", memory_unneeded}, {"empty_cache", memory_unneeded},
    {"max_device_memory", device_memory}, {"gpu_memory", device_memory}, {"max_memory", "write budget.host_ram and budget.device_memory"}, {"memory_limit", "write budget.host_ram and budget.device_memory"},
    {"memory", "write budget.host_ram and budget.device_memory"}, {"ram", "write budget.host_ram"}, {"vram", device_memory},
    {"enable_memory_offload", "write plan.offload"}, {"cpu_offload", "write plan.offload"},
    {"use_chunking_in_train", chunk}, {"max_video_frames", chunk}, {"chunk_size", chunk},
    {"precision", precision}, {"amp", precision}, {"use_amp", precision}, {"amp_backend", precision}, {"amp_level", precision}, {"fp16", precision}, {"bf16", precision},
    {"mixed_precision", precision}, {"half", precision},
    {"devices", device}, {"gpus", device}, {"gpu", device}, {"gpu_ids", device}, {"accelerator", device}, {"cuda", device}, {"use_cuda", device},
    {"work_dir", folder}, {"output_dir", folder}, {"save_dir", folder}, {"log_dir", folder}, {"logdir", folder}, {"default_root_dir", folder}, {"exp_dir", folder},
    {"resume", resume}, {"resume_from", resume}, {"resume_from_checkpoint", resume}, {"auto_resume", resume}, {"ckpt_path", resume},
    {"load_from", weights}, {"pretrained", weights}, {"pretrained_weights", weights}, {"checkpoint_path", weights}, {"init_from", weights},
    {"gradient_clip_val", clip}, {"max_grad_norm", clip}, {"max_norm", clip}, {"grad_clip", clip}, {"clip_grad", clip}, {"gradient_clip", clip},
    {"learning_rate", "write optimizer.lr"}, {"lr", "write optimizer.lr"}, {"base_lr", "write optimizer.lr"}, {"wd", "write optimizer.weight_decay"},
    {"auto_scale_lr", base_batch}, {"base_batch_size", base_batch},
    {"warmup_steps", "write schedule.warmup"}, {"warmup_epochs", "write schedule.warmup"}, {"warmup_ratio", "write schedule.warmup"},
    {"img_size", size}, {"image_size", size}, {"crop_size", size}, {"input_size", size}, {"resize", size},
    {"num_frames", frames}, {"max_frames", frames}, {"clip_len", frames}, {"num_segments", frames}, {"uniform_temporal_subsample_num", frames},
    {"frame_interval", stride}, {"temporal_stride", stride}, {"sampling_rate", stride}, {"frame_stride", stride},
    {"load_rgb", modality}, {"load_kpt", modality},
    {"num_clips", "write eval.clips (evaluation), or use frames.clips"}, {"average_clips", "write eval.average"},
    {"check_val_every_n_epoch", evaluate}, {"val_check_interval", evaluate}, {"val_interval", evaluate}, {"eval_interval", evaluate},
    {"evaluation_strategy", evaluate}, {"eval_strategy", evaluate},
    {"monitor", "write eval.best = \"accuracy.top1\""}, {"save_best", "write eval.best = \"accuracy.top1\""}, {"metric_for_best_model", "write eval.best = \"accuracy.top1\""},
    {"early_stopping", "write eval.patience"}, {"early_stopping_patience", "write eval.patience"},
    {"save_top_k", "write checkpoint.keep; the best is kept beside them"}, {"save_total_limit", "write checkpoint.keep"}, {"max_keep_ckpts", "write checkpoint.keep"},
    {"save_steps", "write checkpoint.every"}, {"save_interval", "write checkpoint.every (steps)"},
    {"sync_batchnorm", "statistics are over the whole batch unless model.batch_norm says otherwise"}, {"sync_bn", "statistics are over the whole batch unless model.batch_norm says otherwise"},
    {"freeze_bn", "write model.batch_norm = \"frozen\""}, {"norm_eval", "write model.batch_norm = \"frozen\""},
    {"random_seed", "write run.seed"}, {"manual_seed", "write run.seed"}, {"seed_everything", "write run.seed"},
    {"num_classes", "the classes are those of the source; head.classes sets another number"},
    {"cudnn_benchmark", "kernels are chosen so that the result does not depend on timing: leave it out"},
    {"benchmark", "kernels are chosen so that the result does not depend on timing: leave it out"},
    {"type", "the key that names a plugin is `plugin`"}, {"_target_", "the key that names a plugin is `plugin`"}, {"name_or_path", "the key that names a plugin is `plugin`"},
});

constexpr std::array sections = std::to_array<Entry>({
    {"trainer", "keys of a trainer are in [run], [budget], [batch] and [eval]"}, {"train", "keys of a trainer are in [run], [budget], [batch] and [eval]"},
    {"training", "keys of a trainer are in [run], [budget], [batch] and [eval]"}, {"dataset", "write [data]"}, {"datasets", "write [data]"},
    {"dataloader", "write [data] for what there is, [budget] and [batch] for how much at once"}, {"loader", "write [data] for what there is, [budget] and [batch] for how much at once"},
    {"gpu", "write [budget] device_memory and run.device"}, {"stages", "write [[stage]], once for each"}, {"transforms", "write [[stage]], once for each"},
    {"transform", "write [[stage]], once for each"}, {"augmentation", "write [[stage]], once for each"}, {"metrics", "write [[metric]], once for each"},
    {"optim", "write [optimizer]"}, {"scheduler", "write [schedule]"}, {"lr_scheduler", "write [schedule]"}, {"criterion", "write [loss]"}, {"losses", "write [loss]"},
    {"network", "write [model]"}, {"backbone", "write it in [model]: backbone = { plugin = \"...\" }"}, {"head", "write it in [model]: head = { plugin = \"...\" }"},
    {"logger", "logs, metrics and TensorBoard files are always written to the run's folder: leave it out"}, {"memory", "write [budget]"},
    {"validation", "write [eval]"}, {"val", "write [eval]"}, {"evaluation", "write [eval]"}, {"environment", "write [env]"},
});

constexpr std::array plugins = std::to_array<Entry>({
    {"augment.normalize", "normalisation is no stage: write [model] input = { mean = [...], std = [...] }; frames stay uint8 until the model"},
    {"augment.to_tensor", "frames become tensors when a microbatch is assembled: leave the stage out"},
    {"augment.to_float", "frames stay uint8 until the model: leave the stage out"},
});

template <std::size_t N> std::string look_up(const std::array<Entry, N>& table, std::string_view key) {
  for (const auto& [name, hint] : table)
    if (name == key) return std::string(hint);
  return {};
}

}  // namespace

std::string precision_named(std::string_view text) {
  const std::string low = lower(text);
  if (low == "32" || low == "32-true" || low == "float32" || low == "float" || low == "full") return "fp32";
  if (low == "16" || low == "16-mixed" || low == "16-true" || low == "float16" || low == "half") return "fp16";
  if (low == "bf16-mixed" || low == "bf16-true" || low == "bfloat16" || low == "brain") return "bf16";
  return {};
}

std::string foreign_key_hint(std::string_view key, const Value* value) {
  const std::string low = lower(key);
  std::string hint = look_up(entries, low);
  if (hint == precision && value) {
    const std::string* text = as_text(*value);
    const std::string named = low == "precision" ? precision_named(text ? *text : shown(*value)) : std::string(low == "bf16" ? "bf16" : low == "fp16" ? "fp16" : "");
    if (!named.empty()) return "write run.precision = \"" + named + "\"";
  }
  return hint;
}

std::string foreign_section_hint(std::string_view section) { return look_up(sections, lower(section)); }

std::string foreign_plugin_hint(std::string_view plugin) { return look_up(plugins, lower(plugin)); }

}  // namespace sluice
