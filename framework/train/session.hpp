// Everything that a run needs before its first frame: device, data, model, budget. Each verb makes one and goes on from it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <c10/core/Device.h>

#include "framework/flow/dataset.hpp"
#include "framework/flow/feed.hpp"
#include "framework/memory/budget.hpp"
#include "framework/report/reporter.hpp"
#include "framework/train/assemble.hpp"
#include "framework/train/entry.hpp"
#include "framework/train/needs.hpp"
#include "framework/train/parts.hpp"
#include "framework/train/out_of_memory.hpp"
#include "framework/train/planner.hpp"
#include "framework/train/run_state.hpp"
#include "framework/train/step_times.hpp"

namespace sluice {

class Session {
 public:
  struct Options {
    bool training = true;    // false: evaluation or prediction alone
    bool evaluation = true;
    bool starting_weights = true;  // model.weights; false where a checkpoint follows
    // Takes the place of the pipeline's source, with the classes to use; for predict.
    std::optional<Recipe> source{};
    std::optional<std::int64_t> saved_microbatch{};  // of the run that is resumed or evaluated
    std::optional<std::int64_t> saved_chunk{};       // likewise
    std::optional<std::string> saved_device{};       // "cuda", of the run that is resumed
    std::function<void()> progress{};  // whenever something moved
  };
  Session(const TrainRequest& request, Reporter& reporter, Options options);

  // In the order in which they are made.
  const Pipeline& pipeline;
  Registry& registry;
  at::Device device{at::kCPU};
  Arithmetic arithmetic;
  std::vector<std::string> routed;  // kernels that are computed in another way than the library's, in words
  std::filesystem::path cache;
  Stages stages;
  std::unique_ptr<Dataset> dataset;
  std::int64_t steps_per_epoch = 0;
  std::int64_t total_steps = 0;
  StreamInfos train_streams, val_streams;
  std::unique_ptr<Model> model;
  std::unique_ptr<Loss> loss;
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<Schedule> schedule;
  std::vector<NamedMetric> metrics;
  Chunking chunking;  // off: clips go through whole
  std::unique_ptr<Assembler> train_assembler, eval_assembler;
  StepTimes step_times;  // of this configuration, from `sluice plan --measure`
  Planned planned;
  Budget budget;
  std::int64_t workers = 1;  // threads that decode and augment
  std::unique_ptr<Ledger> samples;
  std::vector<std::pair<std::string, double>> seconds;  // what each part of the start took

  [[nodiscard]] Feed::Options feed_options() const;
  [[nodiscard]] std::int64_t classes() const { return static_cast<std::int64_t>(dataset->classes().size()); }
  // The rate of optimizer step `step` (0, 1, ...).
  [[nodiscard]] double learning_rate(std::int64_t step) const;
  // What the libraries keep beside the tensors: what is resident and is neither base nor tensors nor samples. For a quiet moment, between steps;
  // until the first it is what the plan foresaw.
  void measure_runtime();
  // Bytes by account, now or at the peak since the allocator's last reset_peak().
  [[nodiscard]] AccountBytes accounts(bool peak) const;
  // The budget with which a pass may need so many bytes beside parameters and optimizer.
  [[nodiscard]] Change more_memory(std::uint64_t pass) const;
  // Microbatches that the network allows, whatever the pipeline pins; the largest first.
  [[nodiscard]] std::vector<std::int64_t> microbatches_if_open() const;
  // Clips go through in chunks of so many frames from the next feed on; what was planned is not touched.
  void use_chunks(std::int64_t frames);
  // The plan as a file that `--plan` takes.
  [[nodiscard]] std::string plan_toml() const;
  // Batches of samples that the budget has room for at once, the one at work among them; as many as are useful at most.
  [[nodiscard]] std::int64_t batches_in_flight() const { return batches_within(budget.samples, batch_places_); }
  // Of the tensors: what budget.device_memory leaves them, on a card without what its driver takes beside them; 0: no bound but host_ram.
  [[nodiscard]] std::uint64_t device_memory() const { return device.is_cpu() ? pipeline.budget.device_memory.value : of_card_; }
  // Of the tensors alone, and no less than the key takes. With device_memory it counts on offloading, without on none.
  [[nodiscard]] std::uint64_t smallest_device_memory() const { return std::max<std::uint64_t>(planned.smallest_tensors + beside_tensors_, 16 << 20); }
  // What is printed at the start: device, data, model, batch, memory.
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> facts() const;
  // What a checkpoint says of this run; the caller fills in where it stands.
  [[nodiscard]] RunState state(const TrainRequest& request) const;
  // Throws Error(Code::data) once more samples failed in an epoch than run.max_failures allows.
  void check_failures(std::int64_t failed) const;

 private:
  // lr, as optimizer.lr_base_batch makes it follow batch.size: what the schedule multiplies.
  [[nodiscard]] double scaled_learning_rate() const;
  void open_data(Reporter& reporter, Options& options);
  void build(const Options& options);
  void fit(Reporter& reporter, const Options& options);
  void choose_precision(Reporter& reporter);
  [[nodiscard]] std::uint64_t offload_room() const;
  void check_kernels(NeedsMeter& meter, Reporter& reporter, const Options& options);
  void fit_into_budget(Reporter& reporter, const Options& options);
  // From here on clips go through in chunks of so many frames.
  void cut_clips(std::int64_t frames);
  [[nodiscard]] SampleBounds bounds_of(Split split, std::int64_t batch) const;
  struct SampleNeeds {
    BudgetNeeds bytes;
    std::uint64_t largest = 0;  // of one sample that is decoded
    std::uint64_t decoders = 0;  // of it, what they work in
    std::uint64_t batch = 0;    // places of a batch
  };
  [[nodiscard]] SampleNeeds needs_of_samples(const SampleBounds& train, std::int64_t eval_microbatch) const;
  void fit_chunks(const std::vector<std::int64_t>& all, Reporter& reporter, const Options& options);
  [[nodiscard]] std::string smaller_hint(std::uint64_t room) const;
  [[nodiscard]] std::uint64_t budget_bytes() const;  // host_ram, or what "auto" stands for
  [[nodiscard]] std::int64_t allowed_failures() const;
  [[nodiscard]] static std::int64_t batches_within(std::uint64_t samples, std::uint64_t places);
  [[nodiscard]] std::string needs_key(const Options& options) const;
  // Asks the card what it has; nothing on the CPU.
  void measure_card();
  PlanLimits limits_;
  std::uint64_t of_card_ = 0, beside_tensors_ = 0;  // bytes of a card for tensors, and those that its driver takes for this process beside them
  std::atomic<std::uint64_t> runtime_{0};  // bytes; the live line reads it on a thread of its own
  std::vector<std::string> why_routed_;  // as routed, with the errors that were seen
  std::int64_t longest_clip_ = 0;  // frames
  std::uint64_t batch_places_ = 0;  // bytes
  std::optional<TensorNeeds> of_smaller_;  // of the smallest chunk, while others are tried
};

}  // namespace sluice
