// Chooses how a pipeline trains inside its budget: microbatch, segments to checkpoint and to offload, microbatch of the evaluation.
// docs/decisions/0009-order-of-the-plan.md has the order of what is tried.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "framework/train/needs.hpp"
#include "framework/train/step_times.hpp"
#include "framework/train/training_plan.hpp"

namespace sluice {

// Of the samples, for an evaluation of that many clips at a time.
struct SampleRoom {
  std::uint64_t least = 0;   // below it a batch cannot come together
  std::uint64_t useful = 0;  // more would lie idle
};

struct PlanRequest {
  PlanLimits limits;
  std::uint64_t host_ram = 0;
  std::uint64_t reserve = 0;
  std::function<SampleRoom(std::int64_t eval_microbatch)> samples;
  std::uint64_t device_memory = 0;   // of all tensors together; 0: as much as host_ram has
  bool tensors_in_host = true;       // false: they take nothing of host_ram, and device_memory is given
  const StepTimes* times = nullptr;  // measured ones; null: a fixed formula stands for them
  std::function<void()> probed{};    // whenever the small passes were measured just now; it may throw, and the process begin afresh without what they left in its libraries
};

// What one budget more or less would lead to.
struct PlanStep {
  TrainingPlan plan;
  std::uint64_t host_ram = 0;  // the least with which it fits; predicted
  std::uint64_t tensors = 0;   // of it, what a device has to hold
  double again = 0;            // share of what a pass keeps that is computed twice
  double moved = 0;            // and that waits in host memory
};

struct Planned {
  TrainingPlan plan;
  TensorNeeds needs;           // of the plan, measured
  TrainingPlan smallest;       // the one with the least memory that the limits allow
  TensorNeeds smallest_needs;  // measured, beyond host_ram where it had to be
  std::uint64_t smallest_tensors = 0;  // of any plan that was found, offloading as much as host_ram allows where device_memory is set
  std::uint64_t foreseen_runtime = 0;  // of plans of several clips
  std::string why;             // in words
  PlanLimits limits{};         // with what the first pass showed
  std::string whole_because{};  // where what the model does beside its Pass keeps the batch whole
  std::vector<std::string> segments{};  // of the model, by path; whole_model where it names none and may be offloaded
  [[nodiscard]] bool names_segments() const { return !segments.empty() && segments.front() != whole_model; }
  int probe_passes = 0;       // that were measured for it, at this start
  double probe_steps = 0;     // the work of these, in steps of the whole batch
  std::optional<MemoryModel> model{};  // where there was something to choose
  std::vector<PlanStep> steps{};       // the plans worth choosing, the one with the most memory first; empty without a model
};

// Throws Error(Code::configuration) where the pipeline names segments that the model does not have, or where the machine has not
// even the memory to find out what would be enough.
[[nodiscard]] Planned make_plan(NeedsMeter& meter, const PlanRequest& request);

}  // namespace sluice
