// Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), as torch.optim computes them.
#include <memory>
#include <string>

#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <sluice/torch/plugin.hpp>

#include "parameters.hpp"

namespace {

struct Settings {
  double lr = 0.001;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  bool decay_norm_and_bias = false;
};

// `decoupled`: the decay shrinks the weights themselves and does not pass through the running averages (AdamW).
class Adam : public sluice::Optimizer {
 public:
  Adam(const Settings& settings, bool decoupled) : settings_(settings), decoupled_(decoupled) {}

  void prepare(const std::vector<sluice::NamedTensor>& weights) override {
    parameters_.prepare(weights, settings_.decay_norm_and_bias, weights.empty() ? at::kCPU : weights.front().tensor.device());
    mean_ = parameters_.zeros_beside();
    square_ = parameters_.zeros_beside();
  }
  void step(double lr) override {
    const auto batches = parameters_.gather(mean_);
    parameters_.count_step();  // the kernels read the number of this step, counted from 1
    const auto kernel = decoupled_ ? static_cast<Kernel*>(&at::_fused_adamw_) : static_cast<Kernel*>(&at::_fused_adam_);
    for (const auto& batch : batches)
      kernel(batch.weights, batch.gradients, of_batch(mean_, batch), of_batch(square_, batch), {}, batch.steps, lr, settings_.beta1, settings_.beta2,
             batch.decays ? settings_.weight_decay : 0.0, settings_.eps, false, false, {}, {});
  }
  std::vector<sluice::NamedTensor> state() override {
    std::vector<sluice::NamedTensor> all{{"step", parameters_.steps()}};
    parameters_.add_state(all, "exp_avg", mean_);
    parameters_.add_state(all, "exp_avg_sq", square_);
    return all;
  }
  double learning_rate() const override { return settings_.lr; }
  std::uint64_t state_bytes(std::uint64_t weight_bytes) const override { return 2 * weight_bytes; }

 private:
  using Kernel = void(at::TensorList, at::TensorList, at::TensorList, at::TensorList, at::TensorList, at::TensorList, double, double, double, double, double, bool,
                      bool, const std::optional<at::Tensor>&, const std::optional<at::Tensor>&);
  Settings settings_;
  bool decoupled_;
  sluice::optimizer::Parameters parameters_;
  std::vector<at::Tensor> mean_, square_;
};

constexpr auto fields = sluice::fields(
    sluice::field(&Settings::lr, "lr", "learning rate, before the schedule", sluice::at_least(0)),
    sluice::field(&Settings::beta1, "beta1", "memory of the running mean of gradients", sluice::below(0, 1)),
    sluice::field(&Settings::beta2, "beta2", "memory of the running mean of their squares", sluice::below(0, 1)),
    sluice::field(&Settings::eps, "eps", "added to the root of the mean square", sluice::above(0)),
    sluice::field(&Settings::weight_decay, "weight_decay", "pulls weights towards zero", sluice::at_least(0)),
    sluice::field(&Settings::decay_norm_and_bias, "decay_norm_and_bias", "decay also the weights with a single axis: norms and biases"));

struct AdamRecipe : Settings {
  static constexpr std::string_view help = "Adam; weight decay, if any, is added to the gradient";
  static constexpr auto fields = ::fields;
  std::unique_ptr<sluice::Optimizer> build(const sluice::OptimizerContext&) const { return std::make_unique<Adam>(*this, false); }
};

struct AdamWRecipe : Settings {
  static constexpr std::string_view help = "AdamW: weight decay apart from the gradient";
  constexpr AdamWRecipe() { weight_decay = 0.01; }
  static constexpr auto fields = ::fields;
  std::unique_ptr<sluice::Optimizer> build(const sluice::OptimizerContext&) const { return std::make_unique<Adam>(*this, true); }
};

}  // namespace

SLUICE_OPTIMIZER(AdamRecipe, "optimizer.adam");
SLUICE_OPTIMIZER(AdamWRecipe, "optimizer.adamw");
