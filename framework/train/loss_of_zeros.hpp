// A pipeline's loss where there is no data: passes over zeros are measured with it.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include <sluice/error.hpp>
#include <sluice/torch/training.hpp>

namespace sluice {

// Zeros may be no target that a loss takes; then the sum of all outputs stands for it, which keeps the same activations.
class LossOfZeros final : public Loss {
 public:
  explicit LossOfZeros(Loss& loss) : loss_(loss) {}
  LossValue operator()(const Outputs& outputs, const Inputs& inputs, const Inputs& host) override {
    try {
      LossValue value = loss_(outputs, inputs, host);
      if (value.weight > 0 && value.sum.defined()) return {value.sum, 1};
    } catch (const Error&) {
    }
    LossValue value;
    for (const auto& [name, tensor] : outputs)
      if (tensor.is_floating_point()) value.sum = value.sum.defined() ? value.sum + tensor.sum() : tensor.sum();
    value.weight = 1;
    return value;
  }

 private:
  Loss& loss_;
};

}  // namespace sluice
