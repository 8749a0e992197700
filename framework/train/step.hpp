// A logical batch becomes one optimizer step: cut into microbatches, sums of loss and weight, one division, one update.
// However it is cut, the gradient is that of sum(loss) / sum(weight) over the whole batch.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <sluice/torch/network.hpp>
#include <sluice/torch/training.hpp>

#include "framework/train/assemble.hpp"
#include "framework/train/pass.hpp"
#include "framework/train/precision.hpp"

namespace sluice {

struct StepOptions {
  std::int64_t microbatch = 1;
  double clip_norm = 0;  // 0: no clipping
  std::int64_t classes = 0;
  SegmentPlan segments{};
  SegmentObserver* observer = nullptr;  // sees the segments of every pass
  Arithmetic arithmetic{};
};

struct StepResult {
  bool updated = false;    // false: nothing to learn from (weight 0), not finite, or abandoned
  bool overflow = false;   // loss or gradient are not finite, and with a smaller loss scale they may be
  bool abandoned = false;  // go_on() said so between two microbatches
  double loss = 0;         // sum / weight
  double weight = 0;
  double seed = 1;           // what the gradients are multiplied by before commit() divides
  double gradient_norm = 0;  // before clipping; 0 without clipping
  std::vector<std::pair<std::string, double>> scalars;
  std::int64_t clips = 0;
};

// Throws Error(Code::plugin) for a value that no loss may return.
void check_loss(const LossValue& value);

class Step {
 public:
  Step(Model& model, Loss& loss, Optimizer& optimizer, StepOptions options);

  // Called after each microbatch; returns whether to go on.
  using GoOn = std::function<bool()>;
  // Gradients are gone when it returns. Where it made no update, weights, statistics and optimizer are as before; also when it
  // throws, which is whatever model and loss throw, c10::OutOfMemoryError among it.
  StepResult run(const Assembler& assembler, std::span<const FinishedSample> batch, double lr, const GoOn& go_on = {});

  // The same without an update, to see whether it fits: everything is as before, whatever comes of it.
  void rehearse(const Assembler& assembler, std::span<const FinishedSample> batch, std::int64_t microbatch, const SegmentPlan& segments);

  [[nodiscard]] LossScaler& scaler() { return scaler_; }

  // From the next run on.
  void follow(std::int64_t microbatch, SegmentPlan segments) {
    options_.microbatch = microbatch;
    options_.segments = std::move(segments);
  }

  // The first half alone: gradients of the sums, not divided. For measuring and for tests.
  StepResult accumulate(const std::vector<std::function<Microbatch()>>& microbatches, const GoOn& go_on = {}, std::int64_t clips = 0);
  // The same on top of the gradients that there are.
  // `clips` of the whole batch, from which the loss scale is taken; 0: those of the first microbatch times their number.
  StepResult add_gradients(const std::vector<std::function<Microbatch()>>& microbatches, const GoOn& go_on = {}, std::int64_t clips = 0);
  // The second half: divides, clips, updates.
  void commit(StepResult& result, double lr);
  void drop_gradients();
  // After a backward pass that threw: autograd keeps the nodes that it did not come to, and with them the graph and its tensors, until they
  // are in the way of another pass on this thread.
  void forget_backward() noexcept;

 private:
  void tag_gradients();
  void remember_statistics();
  void restore_statistics();

  Model& model_;
  Loss& loss_;
  Optimizer& optimizer_;
  StepOptions options_;
  LossScaler scaler_;
  std::vector<at::Tensor> weights_;
  std::vector<at::Tensor> statistics_;
  std::vector<at::Tensor> remembered_;
  at::Tensor number_, oldest_;  // a graph of one node
};

}  // namespace sluice
