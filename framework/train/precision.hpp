// In which type a network computes. Weights, statistics, losses, gradients and the optimizer are fp32 (fp64 networks keep their type)
// whatever it is; what it changes are the matrix products and convolutions of the forward and backward pass.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <sluice/torch/network.hpp>

#include "framework/config/pipeline.hpp"

namespace sluice {

class MicrobatchPass;

struct Arithmetic {
  Precision precision = Precision::fp32;
  at::Device device{at::kCPU};
  [[nodiscard]] bool reduced() const { return precision != Precision::fp32; }
};

// While it lives, networks on this thread compute in it. For fp32 it does nothing.
class AutocastScope {
 public:
  explicit AutocastScope(const Arithmetic& arithmetic);
  ~AutocastScope();
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  bool on_;
  at::DeviceType type_;
  bool enabled_;
  at::ScalarType dtype_;
  bool cache_;
};

// What a loss and metrics get: 16 bits become fp32.
[[nodiscard]] Outputs for_the_loss(const Outputs& outputs);
// Runs the model in it, as one segment where the plan says so, and gives what a loss gets.
[[nodiscard]] Outputs forward_in(const Arithmetic& arithmetic, Model& model, const Inputs& inputs, MicrobatchPass& pass);

[[nodiscard]] const char* name_of(Precision precision);

// Whether a device does it at all, by trying, and whether it has instructions for it.
struct PrecisionSupport {
  bool works = true;
  bool native = true;
  std::string why{};  // where one of the two is false
};
[[nodiscard]] PrecisionSupport precision_support(const Arithmetic& arithmetic);

// Dynamic loss scaling for fp16 (Micikevicius et al. 2018), whose smallest numbers are too large for many gradients: the loss is
// multiplied by a power of two before the backward pass, the gradients are divided by it after. An overflow halves it, and the batch
// gives no update; many good steps double it. For other types it stays 1.
class LossScaler {
 public:
  explicit LossScaler(Precision precision) : active_(precision == Precision::fp16), scale_(active_ ? 65536.0 : 1.0) {}

  [[nodiscard]] bool active() const { return active_; }
  [[nodiscard]] double scale() const { return scale_; }
  void updated();      // a step was made
  bool overflowed();   // it was not: returns whether a smaller scale is left to try

  // A sum grows with the batch, so what the backward pass begins with is the scale divided by a power of two no smaller than the
  // weight that is expected of the batch.
  [[nodiscard]] double seed(double expected_weight) const;

  struct State {
    double scale = 1;
    std::int64_t clean = 0;  // updates since it last changed
    friend bool operator==(const State&, const State&) = default;
  };
  [[nodiscard]] State state() const { return {scale_, clean_}; }
  void restore(const State& state);

 private:
  bool active_;
  double scale_;
  std::int64_t clean_ = 0;
};

}  // namespace sluice
