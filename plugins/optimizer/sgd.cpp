// Stochastic gradient descent with momentum, as torch.optim.SGD computes it.
#include <memory>
#include <string>

#include <ATen/ops/_fused_sgd.h>
#include <sluice/torch/plugin.hpp>

#include "parameters.hpp"

namespace {

struct Recipe {
  static constexpr std::string_view help = "stochastic gradient descent with momentum";
  double lr = 0.01;
  double momentum = 0.9;
  double dampening = 0;
  double weight_decay = 0;
  bool nesterov = false;
  bool decay_norm_and_bias = false;
  static constexpr auto fields = sluice::fields(
      sluice::field(&Recipe::lr, "lr", "learning rate, before the schedule", sluice::at_least(0)),
      sluice::field(&Recipe::momentum, "momentum", "part of the last update that is kept", sluice::below(0, 1)),
      sluice::field(&Recipe::dampening, "dampening", "part of the gradient that does not enter the momentum", sluice::range(0, 1)),
      sluice::field(&Recipe::weight_decay, "weight_decay", "pulls weights towards zero: weight_decay * weight is added to the gradient", sluice::at_least(0)),
      sluice::field(&Recipe::nesterov, "nesterov", "look ahead along the momentum (Sutskever et al. 2013)"),
      sluice::field(&Recipe::decay_norm_and_bias, "decay_norm_and_bias", "decay also the weights with a single axis: norms and biases"));

  void check() const {
    if (nesterov && (momentum == 0 || dampening != 0))
      throw sluice::Error(sluice::Code::configuration, "nesterov needs momentum above 0 and dampening = 0");
  }
  std::unique_ptr<sluice::Optimizer> build(const sluice::OptimizerContext&) const;
};

class Sgd : public sluice::Optimizer {
 public:
  explicit Sgd(const Recipe& recipe) : recipe_(recipe) {}

  void prepare(const std::vector<sluice::NamedTensor>& weights) override {
    parameters_.prepare(weights, recipe_.decay_norm_and_bias, at::kCPU);
    if (recipe_.momentum != 0) momentum_ = parameters_.zeros_beside();
  }
  void step(double lr) override {
    // With dampening, a weight's first gradient enters the momentum whole. Without, zeros as momentum come to the same.
    const auto batches = parameters_.gather(momentum_, recipe_.momentum != 0 && recipe_.dampening != 0);
    for (const auto& batch : batches)
      at::_fused_sgd_(batch.weights, batch.gradients, of_batch(momentum_, batch), batch.decays ? recipe_.weight_decay : 0.0, recipe_.momentum, lr,
                      recipe_.dampening, recipe_.nesterov, false, batch.first_step);
    parameters_.count_step();
  }
  std::vector<sluice::NamedTensor> state() override {
    std::vector<sluice::NamedTensor> all{{"step", parameters_.steps()}};
    parameters_.add_state(all, "momentum", momentum_);
    return all;
  }
  double learning_rate() const override { return recipe_.lr; }
  std::uint64_t state_bytes(std::uint64_t weight_bytes) const override { return recipe_.momentum != 0 ? weight_bytes : 0; }

 private:
  Recipe recipe_;
  sluice::optimizer::Parameters parameters_;
  std::vector<at::Tensor> momentum_;
};

std::unique_ptr<sluice::Optimizer> Recipe::build(const sluice::OptimizerContext&) const { return std::make_unique<Sgd>(*this); }

}  // namespace

SLUICE_OPTIMIZER(Recipe, "optimizer.sgd");
