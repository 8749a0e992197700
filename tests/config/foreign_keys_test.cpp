// Keys of other trainers: each gets a hint that names ours, and what the hint names exists.
#include "framework/config/foreign_keys.hpp"

#include <doctest/doctest.h>

#include <regex>

#include <fmt/format.h>

#include "framework/config/load.hpp"

using namespace sluice;

TEST_CASE("the keys people type today are known") {
  const std::pair<const char*, const char*> cases[] = {
      {"accumulate_grad_batches", "batch.microbatch"}, {"gradient_accumulation_steps", "batch.microbatch"}, {"gradient_checkpointing", "plan.checkpoint"},
      {"use_gradient_checkpointing", "plan.checkpoint"}, {"num_workers", "budget.workers"}, {"batch_size", "batch.size"}, {"max_epochs", "run.epochs"}, {"pin_memory", "leave it out"},
      {"dataloader_pin_memory", "leave it out"}, {"prefetch_factor", "budget.in_flight"}, {"persistent_workers", "budget.in_flight"}, {"max_rowsize", "budget.host_ram"},
      {"max_device_memory", "budget.device_memory"}, {"mempool_block_size", "budget."}, {"enable_memory_offload", "plan.offload"}, {"use_chunking_in_train", "plan.chunk"},
      {"max_video_frames", "plan.chunk"}, {"video_batch_size", "batch.microbatch"}, {"img_size", "augment.resize"}, {"crop_size", "augment.random_crop"}, {"max_frames", "frames.uniform"},
      {"load_kpt", "leave out the stages"}, {"num_io_threads", "budget.workers"}, {"accumulative_counts", "batch.microbatch"}, {"work_dir", "run.dir"}, {"resume", "--resume"},
      {"auto_scale_lr", "optimizer.lr_base_batch"}, {"temporal_stride", "stride"}, {"limit_train_batches", "run.steps"}, {"save_top_k", "checkpoint.keep"}, {"sync_batchnorm", "model.batch_norm"},
      {"Num_Workers", "budget.workers"}};
  for (const auto& [key, ours] : cases) {
    CAPTURE(key);
    CHECK(foreign_key_hint(key, nullptr).find(ours) != std::string::npos);
  }
  CHECK(foreign_key_hint("something_else", nullptr).empty());
}

TEST_CASE("precisions are translated") {
  const std::pair<const char*, const char*> cases[] = {{"16", "fp16"}, {"32", "fp32"}, {"bf16-mixed", "bf16"}, {"16-mixed", "fp16"}, {"32-true", "fp32"}, {"bfloat16", "bf16"}, {"float16", "fp16"}, {"64", ""}};
  for (const auto& [theirs, ours] : cases) CHECK(precision_named(theirs) == ours);
  const Value yes{true, {}};
  CHECK(foreign_key_hint("bf16", &yes) == "write run.precision = \"bf16\"");
}

// Catches a hint that sends people to a key that was renamed since.
TEST_CASE("every key that a hint names is in the reference") {
  const std::string page = key_reference();
  const std::regex ours("\\b(run|budget|batch|eval|checkpoint|plan)\\.([a-z_]+)");
  for (const char* key : {"accumulate_grad_batches", "batch_size", "video_batch_size", "eval_batch_size", "with_cp", "num_workers", "num_threads", "max_epochs", "max_steps", "prefetch_factor", "shuffle", "max_rowsize",
                          "max_device_memory", "max_memory", "ram", "cpu_offload", "chunk_size", "amp", "gpus", "work_dir", "num_clips", "average_clips", "val_interval", "monitor", "early_stopping", "save_top_k", "save_steps",
                          "random_seed"}) {
    const std::string hint = foreign_key_hint(key, nullptr);
    CAPTURE(hint);
    for (std::sregex_iterator at(hint.begin(), hint.end(), ours), end; at != end; ++at) {
      const auto section = page.find(fmt::format("\n## [{}]\n", (*at)[1].str()));
      REQUIRE(section != std::string::npos);
      const auto row = page.find(fmt::format("\n| `{}` |", (*at)[2].str()), section);
      REQUIRE(row != std::string::npos);
      CHECK(row < page.find("\n## ", section + 1));
    }
  }
}
