// A step that runs out of memory is undone and tried again with less, and the plan comes back when there is room.
//
//   Recovery steps(model, loss, optimizer, {options, plan, limits, [](const std::string& line) { log::warning("{}", line); }});
//   const StepResult result = steps.run(assembler, batch.samples, lr, go_on);
//
// The rungs, from what costs nothing: the same again with freed memory given back; every segment computed twice; smaller microbatches.
// Only those are taken that the pipeline leaves open; those of which the memory model knows that they do not fit are passed over, down
// and up. The first two change no bit; the third changes the last ones, and is said.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "framework/train/memory_model.hpp"
#include "framework/train/out_of_memory.hpp"
#include "framework/train/step.hpp"
#include "framework/train/training_plan.hpp"

namespace sluice {

class Recovery {
 public:
  struct Options {
    StepOptions step;
    TrainingPlan plan;
    PlanLimits limits;
    std::function<void(const std::string&)> say;  // a line for each rung, down and up
    std::function<void(const TrainingPlan&)> changed{};  // what the steps from here on follow, after each rung
    const MemoryModel* model = nullptr;           // null: every rung is tried
    std::vector<std::int64_t> if_open{};          // microbatches that the network allows, whatever the pipeline pins; the largest first
    std::int64_t clean_steps = 20;                // until a rung is taken back; twice as many after each that did not last
  };
  Recovery(Model& model, Loss& loss, Optimizer& optimizer, Options options);

  // As Step::run(). Throws c10::OutOfMemoryError when the last rung does not fit: then everything is as before the step.
  [[nodiscard]] LossScaler& scaler() { return step_.scaler(); }
  StepResult run(const Assembler& assembler, std::span<const FinishedSample> batch, double lr, const Step::GoOn& go_on = {});

  // After that: the single changes with which this batch would have gone through, each tried on it. What changes nothing comes first.
  // `more_memory` gives the budget with which a pass may need so many bytes.
  [[nodiscard]] std::vector<Change> changes_that_fit(const Assembler& assembler, std::span<const FinishedSample> batch, const std::function<Change(std::uint64_t)>& more_memory);

  // That the next step follows.
  [[nodiscard]] const TrainingPlan& plan() const { return now_; }
  [[nodiscard]] std::int64_t retries() const { return retries_; }

  // For a checkpoint; nothing while it is as at the start.
  [[nodiscard]] std::optional<LadderState> state() const;
  // False: the pipeline does not allow it, and all stays as planned.
  bool restore(const LadderState& state);

 private:
  bool step_down(const std::string& why);
  void step_up();
  [[nodiscard]] std::vector<TrainingPlan> below() const;
  [[nodiscard]] TrainingPlan above() const;
  [[nodiscard]] bool reduced() const { return now_.microbatch != options_.plan.microbatch || !(now_.segments == options_.plan.segments); }
  // By the model, in the room that there is after a step was undone; true where it cannot say.
  [[nodiscard]] bool may_fit(const TrainingPlan& plan) const;
  void follow(TrainingPlan plan);
  void change(TrainingPlan plan);

  Options options_;
  Step step_;
  TrainingPlan now_;
  std::int64_t clean_ = 0;
  std::int64_t patience_;
  std::int64_t retries_ = 0;
};

}  // namespace sluice
