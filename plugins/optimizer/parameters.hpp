// What the optimizers share: which weights decay, each weight's own count of steps, lists for the fused kernels.
//
// A step is all or nothing: whatever may fail (a gradient of another layout is copied) happens in gather(), before any
// weight or state has changed; after it the fused kernels run in place and allocate nothing.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <sluice/error.hpp>
#include <sluice/torch/tensors.hpp>

namespace sluice::optimizer {

// Weights that one call of a fused kernel takes: same decay, same type.
struct Batch {
  bool decays = true, first_step = false;
  std::vector<std::size_t> numbers;  // of the weights
  std::vector<at::Tensor> weights, gradients, steps;
};

// Whether both lie in memory in the same order; an axis of extent 1 may have any stride.
inline bool same_layout(const at::Tensor& a, const at::Tensor& b) {
  for (std::int64_t i = 0; i < a.dim(); ++i)
    if (a.size(i) > 1 && a.stride(i) != b.stride(i)) return false;
  return a.scalar_type() == b.scalar_type() && a.device() == b.device();
}

class Parameters {
 public:
  // With `decay_all` also norms and biases (one axis or none) decay. `steps_device`: where the counts of steps are read.
  void prepare(const std::vector<NamedTensor>& weights, bool decay_all, at::Device steps_device) {
    weights_ = weights;
    decay_all_ = decay_all;
    steps_ = at::zeros({static_cast<std::int64_t>(weights_.size())}, at::TensorOptions(at::kFloat).device(steps_device));
    moved_ = at::zeros_like(steps_);
    active_.assign(weights_.size(), false);
  }

  // State beside a weight: zeros of its type, device and layout.
  [[nodiscard]] std::vector<at::Tensor> zeros_beside() const {
    std::vector<at::Tensor> out;
    for (const auto& [name, weight] : weights_) out.push_back(at::zeros_like(weight.detach(), at::MemoryFormat::Preserve));
    return out;
  }
  // How often each weight was stepped: float [weights], as the fused kernels want it; exact up to 2^24.
  [[nodiscard]] const at::Tensor& steps() const { return steps_; }
  void add_state(std::vector<NamedTensor>& all, const std::string& name, const std::vector<at::Tensor>& state) const {
    for (std::size_t i = 0; i < state.size(); ++i) all.push_back({name + "." + weights_[i].name, state[i]});
  }

  // The weights that have a gradient, in batches; with `part_first` those that were never stepped apart, which wants the
  // counts on the CPU. `beside` is state whose layout must still be the weights'.
  std::vector<Batch> gather(const std::vector<at::Tensor>& beside, bool part_first = false) {
    std::vector<Batch> batches;
    std::vector<bool> active(weights_.size(), false);
    for (std::size_t i = 0; i < weights_.size(); ++i) {
      const at::Tensor weight = weights_[i].tensor.detach();
      at::Tensor gradient = weights_[i].tensor.grad();
      if (!gradient.defined()) continue;
      // The kernels walk through memory: a gradient that lies otherwise than its weight would be taken silently, and wrongly.
      if (!beside.empty() && !same_layout(beside[i], weight))
        throw Error(Code::plugin, "the weight '" + weights_[i].name + "' changed its layout, type or device after the optimizer was prepared", "prepare the optimizer last");
      if (!same_layout(gradient, weight)) {
        at::Tensor alike = at::empty_like(weight, at::MemoryFormat::Preserve);
        alike.copy_(gradient);
        gradient = alike;
      }
      active[i] = true;
      const bool first = part_first && steps_.const_data_ptr<float>()[i] == 0;
      Batch& batch = batch_for(batches, decay_all_ || weight.dim() > 1, first, weight);
      batch.numbers.push_back(i);
      batch.weights.push_back(weight);
      batch.gradients.push_back(gradient.detach());
      batch.steps.push_back(steps_.select(0, static_cast<std::int64_t>(i)));
    }
    if (active != active_) {
      at::Tensor mask = at::zeros(moved_.sizes(), moved_.options().device(at::kCPU));
      for (std::size_t i = 0; i < active.size(); ++i) mask.data_ptr<float>()[i] = active[i] ? 1.0f : 0.0f;
      moved_.copy_(mask);
      active_ = active;
    }
    return batches;
  }
  // Counts the step for the weights of the last gather().
  void count_step() { steps_.add_(moved_); }

 private:
  static Batch& batch_for(std::vector<Batch>& batches, bool decays, bool first, const at::Tensor& weight) {
    const auto found = std::find_if(batches.begin(), batches.end(), [&](const Batch& batch) {
      const auto& other = batch.weights.front();
      return batch.decays == decays && batch.first_step == first && other.scalar_type() == weight.scalar_type() && other.device() == weight.device();
    });
    if (found != batches.end()) return *found;
    batches.push_back({decays, first, {}, {}, {}, {}});
    return batches.back();
  }

  std::vector<NamedTensor> weights_;
  bool decay_all_ = false;
  at::Tensor steps_, moved_;  // moved_: 1 for the weights that the last gather() found a gradient for
  std::vector<bool> active_;
};

// The entries of `all` that belong to a batch.
inline std::vector<at::Tensor> of_batch(const std::vector<at::Tensor>& all, const Batch& batch) {
  std::vector<at::Tensor> out;
  if (all.empty()) return out;
  for (const auto number : batch.numbers) out.push_back(all[number]);
  return out;
}

}  // namespace sluice::optimizer
