// The optimizers against torch.optim over 20 steps, and what a checkpoint of theirs holds.
#include <cmath>

#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include "oracle.hpp"
#include "training_half.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

struct Named {
  std::string file, plugin;
  std::vector<Setting> settings;
};

// As oracle/make.py names them.
const std::map<std::string, Named>& variants() {
  static const std::map<std::string, Named> all = {
      {"sgd", {"optimizer.sgd", "optimizer.sgd", {{"momentum", 0.9}, {"weight_decay", 0.01}}}},
      {"nesterov", {"optimizer.sgd", "optimizer.sgd", {{"momentum", 0.9}, {"weight_decay", 0.01}, {"nesterov", true}}}},
      {"plain", {"optimizer.sgd", "optimizer.sgd", {{"momentum", 0.0}, {"weight_decay", 0.01}}}},
      {"dampening", {"optimizer.sgd", "optimizer.sgd", {{"momentum", 0.8}, {"dampening", 0.3}}}},
      {"adam", {"optimizer.adam", "optimizer.adam", {{"weight_decay", 0.01}}}},
      {"adamw", {"optimizer.adam", "optimizer.adamw", {{"beta1", 0.8}, {"beta2", 0.99}, {"eps", 1e-6}, {"weight_decay", 0.1}}}},
  };
  return all;
}

std::unique_ptr<Optimizer> make(const std::string& variant, bool decay_all = false) {
  auto [file, plugin, settings] = variants().at(variant);
  settings.emplace_back("decay_norm_and_bias", decay_all);
  return build<OptimizerFactory>(part(plugin, settings, file), OptimizerContext{});
}

std::vector<NamedTensor> weights(at::MemoryFormat format = at::MemoryFormat::Contiguous) {
  const std::vector<std::pair<std::string, std::vector<std::int64_t>>> shapes = {{"a.weight", {4, 3, 3, 3, 3}}, {"a.bias", {4}}, {"b.weight", {5, 6}}};
  std::vector<NamedTensor> out;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    at::Tensor value = wave(shapes[i].second, static_cast<double>(i)).to(at::kFloat);
    if (value.dim() == 5) value = value.contiguous(format);
    out.push_back({shapes[i].first, value.requires_grad_()});
  }
  return out;
}

void step(Optimizer& optimizer, std::vector<NamedTensor>& all, int number) {
  for (std::size_t i = 0; i < all.size(); ++i) {
    auto& weight = all[i].tensor;
    weight.mutable_grad() = at::Tensor();
    if (all[i].name == "b.weight" && number < 3) continue;  // its first gradient comes late
    weight.mutable_grad() = wave(weight.sizes(), static_cast<double>(i) + 0.37 * number).to(at::kFloat);
  }
  optimizer.step(0.1 / (number + 1));
}

std::vector<at::Tensor> copies(const std::vector<NamedTensor>& all) {
  std::vector<at::Tensor> out;
  for (const auto& [name, tensor] : all) out.push_back(tensor.detach().clone());
  return out;
}

}  // namespace

// Catches: decay on norms and biases (or on none), a first step that dampens, a step count that a weight without a gradient
// shares, a learning rate that is not the step's.
TEST_CASE("20 steps give the weights of torch.optim") {
  for (const auto& [variant, unused] : variants())
    for (const bool decay_all : {false, true}) {
      CAPTURE(variant);
      CAPTURE(decay_all);
      const auto& expected = oracle()["optimizers"][variant];
      const auto optimizer = make(variant, decay_all);
      auto all = weights();
      optimizer->prepare(all);
      for (int number = 0; number < 20; ++number) step(*optimizer, all, number);
      for (const auto& [name, weight] : all) {
        CAPTURE(name);
        const std::string key = decay_all ? "all" : "some";
        CHECK(difference(weight, to_tensor(expected[key + "_fused"][name])) == 0.0);
        CHECK(difference(weight, to_tensor(expected[key + "_single"][name])) < 2e-6);
      }
    }
}

// Catches: state that is not saved (momentum, the step count, what makes a first step a first step).
TEST_CASE("state copied in place into a fresh optimizer goes on bit-equal") {
  for (const auto& [variant, unused] : variants())
    for (const int stop : {1, 2, 7}) {
      CAPTURE(variant);
      CAPTURE(stop);
      auto straight = weights(), first = weights(), second = weights();
      const auto whole = make(variant), before = make(variant), after = make(variant);
      whole->prepare(straight);
      before->prepare(first);
      for (int number = 0; number < 12; ++number) step(*whole, straight, number);
      for (int number = 0; number < stop; ++number) step(*before, first, number);

      after->prepare(second);
      auto to = after->state();
      const auto from = before->state();
      REQUIRE(to.size() == from.size());
      for (std::size_t i = 0; i < to.size(); ++i) {
        CHECK(to[i].name == from[i].name);
        to[i].tensor.copy_(from[i].tensor);
      }
      for (std::size_t i = 0; i < second.size(); ++i) second[i].tensor.detach().copy_(first[i].tensor.detach());
      for (int number = stop; number < 12; ++number) step(*after, second, number);
      for (std::size_t i = 0; i < second.size(); ++i) CHECK(at::equal(second[i].tensor.detach(), straight[i].tensor.detach()));
    }
}

// Catches: kernels that walk through memory while weight and gradient lie differently: silently wrong.
TEST_CASE("weights in channels-last layout give the same bits") {
  for (const auto& [variant, unused] : variants()) {
    CAPTURE(variant);
    auto plain = weights(), last = weights(at::MemoryFormat::ChannelsLast3d);
    REQUIRE(last[0].tensor.strides() != plain[0].tensor.strides());
    const auto a = make(variant), b = make(variant);
    a->prepare(plain);
    b->prepare(last);
    for (int number = 0; number < 5; ++number) {
      step(*a, plain, number);
      step(*b, last, number);
    }
    for (std::size_t i = 0; i < plain.size(); ++i) CHECK(difference(plain[i].tensor, last[i].tensor) < (variant == "adam" || variant == "adamw" ? 1e-6 : 1e-7));
    auto moved = weights();
    const auto c = make(variant);
    c->prepare(moved);
    moved[0].tensor.set_data(moved[0].tensor.detach().contiguous(at::MemoryFormat::ChannelsLast3d));
    const auto kept = copies(moved);
    if (variant != "plain") {
      CHECK_THROWS_WITH_AS(step(*c, moved, 5), doctest::Contains("a.weight"), Error);
      for (std::size_t i = 0; i < moved.size(); ++i) CHECK(at::equal(moved[i].tensor.detach(), kept[i]));  // all or nothing
    }
  }
}

// Catches: state under names that say nothing, a budget that forgets it.
TEST_CASE("state has names, and its bytes are known beforehand") {
  const auto names = [](const std::string& variant) {
    auto all = weights();
    const auto optimizer = make(variant);
    optimizer->prepare(all);
    std::vector<std::string> out;
    std::uint64_t bytes = 0, weight_bytes = 0;
    for (const auto& [name, tensor] : optimizer->state()) {
      out.push_back(name);
      if (name != "step") bytes += tensor.nbytes();
    }
    for (const auto& [name, tensor] : all) weight_bytes += tensor.nbytes();
    CHECK(optimizer->state_bytes(weight_bytes) == bytes);
    return out;
  };
  CHECK(names("sgd") == std::vector<std::string>{"step", "momentum.a.weight", "momentum.a.bias", "momentum.b.weight"});
  CHECK(names("plain") == std::vector<std::string>{"step"});
  CHECK(names("adamw") == std::vector<std::string>{"step", "exp_avg.a.weight", "exp_avg.a.bias", "exp_avg.b.weight", "exp_avg_sq.a.weight", "exp_avg_sq.a.bias", "exp_avg_sq.b.weight"});
}

// Catches: nesterov without momentum, which torch.optim refuses too; a learning rate that the trainer cannot ask for.
TEST_CASE("settings") {
  CHECK_THROWS_AS(static_cast<void>(part("optimizer.sgd", {{"momentum", 0.0}, {"nesterov", true}})), Error);
  CHECK_THROWS_AS(static_cast<void>(part("optimizer.sgd", {{"lr", -0.1}})), Error);
  CHECK(build<OptimizerFactory>(part("optimizer.sgd", {{"lr", 0.25}}), OptimizerContext{})->learning_rate() == 0.25);
}
