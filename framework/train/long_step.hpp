// A logical batch of long clips becomes one optimizer step: clip after clip, each in its chunks, as the feed hands them over.
//
//   LongStep steps(model, loss, optimizer, {.classes = 6});
//   steps.add(assembler, piece);                              // for each piece of the batch
//   if (piece.complete()) result = steps.commit(lr);
#pragma once

#include <optional>
#include <vector>

#include "framework/flow/feed.hpp"
#include "framework/train/long_clip.hpp"
#include "framework/train/step.hpp"

namespace sluice {

class LongStep {
 public:
  LongStep(Model& model, Loss& loss, Optimizer& optimizer, StepOptions options);

  // A clip that failed, in either pass, leaves nothing behind: the others' gradient is that of a batch without it. When it throws,
  // gradients are gone and what comes next begins a batch.
  void add(const Assembler& assembler, const Batch& piece);
  // Divides, clips, updates, as Step::commit.
  StepResult commit(double lr);
  [[nodiscard]] LossScaler& scaler() { return step_.scaler(); }

 private:
  struct Current {
    LongClip clip;
    LossValue value{};
    // Of the clips before it: what it adds is summed beside them until it is whole.
    std::vector<at::Tensor> gradients_before;
  };
  void work(const Assembler& assembler, const Batch& piece);
  void begin();
  void keep();
  void forget();
  void reset();

  Model& model_;
  Loss& loss_;
  StepOptions options_;
  Step step_;
  std::vector<at::Tensor> weights_;
  std::optional<Current> current_;
  StepResult result_;
  double sum_ = 0;
};

}  // namespace sluice
