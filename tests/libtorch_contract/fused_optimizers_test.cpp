// What optimizer.sgd and optimizer.adamw rely on: the fused kernels' arithmetic, and what they leave alone.
#include "small_net.hpp"

#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros_like.h>
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <optional>

namespace {

at::Tensor weights() { return SmallNet::filled({37}, 0.7); }
at::Tensor gradients(int step) { return SmallNet::filled({37}, 0.3 + 0.1 * step); }

double largest_difference(const at::Tensor& a, const std::vector<double>& b) {
  double most = 0;
  for (std::size_t i = 0; i < b.size(); ++i)
    most = std::max(most, std::abs(a[static_cast<std::int64_t>(i)].item<double>() - b[i]));
  return most;
}

std::vector<double> values(const at::Tensor& tensor) {
  std::vector<double> out;
  for (std::int64_t i = 0; i < tensor.numel(); ++i) out.push_back(tensor[i].item<double>());
  return out;
}

struct Adam {
  at::Tensor weight = weights(), first = at::zeros_like(weight), second = at::zeros_like(weight);
  at::Tensor steps = at::full({}, 0.0, at::kFloat);

  void step(const at::Tensor& gradient, const std::optional<at::Tensor>& scale = {},
            const std::optional<at::Tensor>& found_inf = {}) {
    steps.add_(1);   // the kernel reads the number of this step: the caller counts
    at::_fused_adamw_({weight}, {gradient}, {first}, {second}, {}, {steps}, 0.01, 0.9, 0.999, 0.1, 1e-8, false, false,
                      scale, found_inf);
  }
};

}  // namespace

// Oracle: Loshchilov and Hutter's formula in double. Mistake caught: decay taken into the gradient, bias not corrected.
TEST_CASE("fused AdamW is decoupled decay with bias-corrected moments") {
  Adam adam;
  std::vector<double> w = values(adam.weight), m(w.size()), v(w.size());
  for (int t = 1; t <= 5; ++t) {
    adam.step(gradients(t));
    const std::vector<double> g = values(gradients(t));
    for (std::size_t i = 0; i < w.size(); ++i) {
      m[i] = 0.9 * m[i] + 0.1 * g[i];
      v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i];
      w[i] -= 0.01 * 0.1 * w[i];
      w[i] -= 0.01 * (m[i] / (1 - std::pow(0.9, t))) / (std::sqrt(v[i] / (1 - std::pow(0.999, t))) + 1e-8);
    }
  }
  CHECK(largest_difference(adam.weight, w) < 1e-6);
}

// Oracle: the recurrence in double. Mistake caught: taking is_first_step for a hint; it decides what the buffer becomes.
TEST_CASE("fused SGD: the first step sets the momentum buffer whatever stood in it, later steps add to it") {
  at::Tensor weight = weights(), buffer = at::full({37}, 1000.0, at::kFloat);
  std::vector<double> w = values(weight), b(w.size());
  for (int t = 0; t < 4; ++t) {
    at::_fused_sgd_({weight}, {gradients(t)}, {buffer}, 0.01, 0.9, 0.05, 0.0, false, false, t == 0);
    const std::vector<double> g = values(gradients(t));
    for (std::size_t i = 0; i < w.size(); ++i) {
      const double decayed = g[i] + 0.01 * w[i];
      b[i] = t == 0 ? decayed : 0.9 * b[i] + decayed;
      w[i] -= 0.05 * b[i];
    }
  }
  CHECK(largest_difference(weight, w) < 1e-6);
}

// Mistake caught: counting a skipped step, so that the bias correction is that of another step for ever.
TEST_CASE("found_inf leaves weights and moments as they were; the count of steps is the caller's to take back") {
  Adam adam;
  adam.step(gradients(1));
  const std::vector<at::Tensor> before = {adam.weight.clone(), adam.first.clone(), adam.second.clone()};
  adam.step(gradients(2), {}, at::full({}, 1.0, at::kFloat));
  CHECK(bit_equal({adam.weight, adam.first, adam.second}, before));
  CHECK(adam.steps.item<double>() == doctest::Approx(2.0));
}

// Mistake caught: a step that is tried again divides its gradients twice.
TEST_CASE("grad_scale rewrites the gradients in place") {
  Adam adam;
  const at::Tensor gradient = gradients(1), original = gradient.clone();
  adam.step(gradient, at::full({}, 4.0, at::kFloat), at::full({}, 0.0, at::kFloat));
  CHECK(bit_equal({gradient}, {original.div(4)}));
}

// Mistake caught: passing a frozen parameter on and losing the whole step.
TEST_CASE("a parameter without a gradient is an error, not skipped") {
  Adam adam;
  CHECK_THROWS_AS(adam.step(at::Tensor()), c10::Error);
}

// Mistake caught: an overflow that is not seen, or gradients left with another scale.
TEST_CASE("unscaling finds inf and nan over all tensors") {
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN(), 1.0F}) {
    CAPTURE(bad);
    at::Tensor first = gradients(1), second = gradients(2), found = at::full({}, 0.0, at::kFloat);
    const at::Tensor expected = first.mul(0.5);
    second.fill_(bad);
    at::_amp_foreach_non_finite_check_and_unscale_({first, second}, found, at::full({}, 0.5, at::kFloat));
    CHECK(found.item<float>() == (std::isfinite(bad) ? 0.0F : 1.0F));
    CHECK(bit_equal({first}, {expected}));
  }
}
