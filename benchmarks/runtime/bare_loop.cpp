// What training costs without sluice: the same network, loss and fused optimizer in a plain LibTorch loop over batches that are
// already float tensors in the best memory layout. Prints one JSON line with the median step; see run.py.
//   bare_loop BACKBONE.so NAME FIELD=VALUE... -- BATCH FRAMES SIZE CLASSES STEPS THREADS
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros_like.h>
#include <torch/nn/modules/linear.h>

#include <sluice/torch/plugin.hpp>

#include "../../tests/support/plugin_host.hpp"

namespace {

// Runs every segment straight through, as a network without sluice would.
class MicrobatchPass : public sluice::Pass {
 public:
  [[nodiscard]] bool training() const override { return true; }

 protected:
  Tensors run_segment(std::string_view, Function function, Tensors inputs) override { return function(inputs); }
  at::Tensor run_dropout(const at::Tensor& x, double, bool) override { return x; }
};

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const auto dash = std::find(arguments.begin(), arguments.end(), "--");
  if (dash == arguments.end() || arguments.end() - dash != 7) {
    std::fprintf(stderr, "usage: bare_loop BACKBONE.so NAME [FIELD=INTEGER...] -- BATCH FRAMES SIZE CLASSES STEPS THREADS\n");
    return 2;
  }
  const auto number = [&](int i) { return std::atol((dash + 1 + i)->c_str()); };
  const std::int64_t batch = number(0), frames = number(1), size = number(2), classes = number(3), steps = number(4);
  at::set_num_threads(static_cast<int>(number(5)));

  std::vector<sluice::testing::Setting> settings;
  for (auto it = arguments.begin() + 2; it != dash; ++it) {
    const auto equals = it->find('=');
    settings.emplace_back(it->substr(0, equals), static_cast<std::int64_t>(std::atol(it->c_str() + equals + 1)));
  }
  const sluice::testing::Plugin plugin(arguments[0]);
  const auto recipe = plugin.recipe(arguments[1], settings);
  const auto* factory = static_cast<const sluice::BackboneFactory*>(recipe.descriptor().training);
  const auto backbone = factory->build(recipe.raw(), {3, frames, size, size});
  torch::nn::Linear head(backbone->channels(), classes);
  backbone->set_training(true);

  std::vector<at::Tensor> weights, gradients, momentum;
  for (auto& weight : backbone->weights()) {
    if (weight.tensor.dim() == 5) weight.tensor.set_data(weight.tensor.contiguous(at::MemoryFormat::ChannelsLast3d));
    weights.push_back(weight.tensor);
  }
  for (auto& weight : head->parameters()) weights.push_back(weight);
  for (auto& weight : weights) momentum.push_back(at::zeros_like(weight));

  const auto clips = at::randn({batch, 3, frames, size, size}).contiguous(at::MemoryFormat::ChannelsLast3d);
  const auto labels = at::randint(classes, {batch}, at::kLong);
  MicrobatchPass pass;
  std::vector<double> seconds;
  for (std::int64_t step = 0; step < steps; ++step) {
    const auto begin = std::chrono::steady_clock::now();
    const auto features = backbone->forward(clips, pass).mean({2, 3, 4});
    const auto loss = at::cross_entropy_loss(head(features), labels);
    loss.backward();
    gradients.clear();
    for (const auto& weight : weights) gradients.push_back(weight.grad());
    at::_fused_sgd_(weights, gradients, momentum, 1e-4, 0.9, 1e-4, 0.0, false, false, step == 0);
    for (auto& weight : weights) weight.mutable_grad().reset();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  seconds.erase(seconds.begin(), seconds.begin() + std::min<std::ptrdiff_t>(3, steps - 1));  // kernels are chosen in the first steps
  std::nth_element(seconds.begin(), seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2), seconds.end());
  std::printf("{\"step_seconds\": %.6f, \"clips_per_second\": %.3f}\n", seconds[seconds.size() / 2],
              static_cast<double>(batch) / seconds[seconds.size() / 2]);
}
