// Losses, optimizers, schedules and metrics: what the trainer needs beside a model.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include <sluice/torch/tensors.hpp>

namespace sluice {

// The loss of a microbatch as a sum and its weight. The trainer adds both over microbatches (and ranks) and divides once:
// a mean of means is wrong as soon as weights differ.
struct LossValue {
  at::Tensor sum;     // scalar with gradient
  double weight = 0;  // e.g. the number of clips that count; from host data, so that nothing waits for the device
  std::vector<std::pair<std::string, at::Tensor>> scalars{};  // further sums to log, divided by the same weight
};

class Loss {
 public:
  virtual ~Loss() = default;
  // `host` holds the streams that are no video as CPU tensors (labels, lengths), `inputs` all streams on the device.
  [[nodiscard]] virtual LossValue operator()(const Outputs& outputs, const Inputs& inputs, const Inputs& host) = 0;
  // Throws Code::data for targets that this loss cannot take (a label outside of the classes); host tensors only.
  virtual void check(const Inputs& host, std::int64_t classes) const { static_cast<void>(host), static_cast<void>(classes); }
};
struct LossContext {
  std::vector<std::string> classes;
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  // Allocates all state; called once, with the weights on their device.
  virtual void prepare(const std::vector<NamedTensor>& weights) = 0;
  // Reads each weight's gradient; a weight without one is left alone. Allocates nothing that can fail half way.
  virtual void step(double lr) = 0;
  // Tensors that a checkpoint holds; loading copies into them in place.
  [[nodiscard]] virtual std::vector<NamedTensor> state() = 0;
  // The learning rate of the pipeline file, before schedule and scaling.
  [[nodiscard]] virtual double learning_rate() const = 0;
  // Bytes of state for this many bytes of weights, known before prepare().
  [[nodiscard]] virtual std::uint64_t state_bytes(std::uint64_t weight_bytes) const = 0;
};
struct OptimizerContext {};

// Factor on the learning rate: a pure function of the optimizer step (0, 1, ... total - 1).
class Schedule {
 public:
  virtual ~Schedule() = default;
  [[nodiscard]] virtual double factor(std::int64_t step) const = 0;
};
struct ScheduleContext {
  std::int64_t total_steps = 0;
  std::int64_t steps_per_epoch = 0;
};

class Metric {
 public:
  virtual ~Metric() = default;
  // CPU tensors. outputs: what the model said, averaged over the clips of a video; host: streams that are no video.
  virtual void update(const Outputs& outputs, const Inputs& host) = 0;
  virtual void merge(const Metric& other) = 0;
  virtual void reset() = 0;
  // Named numbers, e.g. {"top1", 0.97}; the log prefixes the metric's name.
  [[nodiscard]] virtual std::vector<std::pair<std::string, double>> result() const = 0;
  // A table for the end of the run; may be empty.
  [[nodiscard]] virtual std::string table() const { return {}; }
};
struct MetricContext {
  std::vector<std::string> classes;
};

}  // namespace sluice
