// Small networks, losses and samples made by hand, for the trainer's tests.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/conv3d.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>

#include <sluice/rng.hpp>
#include <sluice/torch/network.hpp>
#include <sluice/torch/training.hpp>

#include "framework/flow/feed.hpp"

namespace sluice::fakes {

inline Array make_array(DType dtype, const Shape& shape, std::string_view axes = {}) {
  const auto bytes = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(shape.elements()) * bytes_of(dtype));
  abi::Block block{std::calloc(1, bytes), bytes, nullptr, [](void*, void* data, std::uint64_t) { std::free(data); }};
  return Array::over(block, dtype, shape, axes);
}

inline Array make_label(std::int64_t label) {
  Array array = make_array(DType::i64, {});
  array.values<std::int64_t>()[0] = label;
  return array;
}

inline Array make_clip(std::int64_t frames, std::int64_t height, std::int64_t width, std::uint32_t seed) {
  Array array = make_array(DType::u8, {frames, height, width, 3}, "THWC");
  std::mt19937 random(seed);
  for (auto& value : array.values<std::uint8_t>()) value = static_cast<std::uint8_t>(random());
  return array;
}

inline FinishedSample make_sample(std::int64_t index, Array clip, std::int64_t label) {
  FinishedSample sample;
  sample.index = index;
  sample.number = static_cast<std::uint64_t>(index);
  sample.key = mix_bits(static_cast<std::uint64_t>(index) + 77);
  sample.arrays.emplace_back("clip", std::move(clip));
  sample.arrays.emplace_back("label", make_label(label));
  return sample;
}

inline std::vector<std::pair<std::string, Info>> clip_and_label(std::int64_t frames, std::int64_t height, std::int64_t width) {
  Info label;
  label.dtype = DType::i64;
  return {{"clip", Info::video(frames, height, width)}, {"label", label}};
}

// conv3d, relu, dropout, mean over the clip, linear: in any type; no statistics.
class TinyModel final : public Model {
 public:
  TinyModel(std::int64_t classes, at::ScalarType type, double dropout = 0) : type_(type), dropout_(dropout) {
    at::manual_seed(3);
    const auto make = [&](std::vector<std::int64_t> sizes) { return at::randn(sizes, type).mul_(0.2).set_requires_grad(true); };
    conv_ = make({6, 3, 3, 3, 3});
    bias_ = make({6});
    fc_ = make({classes, 6});
  }
  std::vector<NamedTensor> weights() override { return {{"conv.weight", conv_}, {"conv.bias", bias_}, {"fc.weight", fc_}}; }
  std::vector<NamedTensor> statistics() override { return {}; }
  void set_training(bool) override {}
  void move_to(at::Device) override {}
  std::int64_t batch_norms(bool) override { return 0; }
  Outputs forward(const Inputs& inputs, Pass& pass) override {
    const at::Tensor clip = inputs.get("clip").to(type_);
    const auto features = pass.segment("conv", [this, &pass](const at::Tensor& x) {
      return pass.dropout(at::conv3d(x, conv_, bias_, 1, 1).relu(), dropout_);
    }, clip);
    Outputs out;
    out.set("logits", at::linear(features.mean({2, 3, 4}), fc_));
    return out;
  }

 private:
  at::ScalarType type_;
  double dropout_;
  at::Tensor conv_, bias_, fc_;
};

// Cross entropy by hand, label -1 does not count.
class TinyLoss final : public Loss {
 public:
  double factor = 1;  // times too steep: what an overflow of the loss or of its gradients comes from
  LossValue operator()(const Outputs& outputs, const Inputs& inputs, const Inputs& host) override {
    const at::Tensor log_p = at::log_softmax(outputs.get("logits"), 1);
    const at::Tensor labels = inputs.get("label"), kept = labels.ge(0);
    const at::Tensor picked = log_p.gather(1, labels.clamp_min(0).unsqueeze(1)).squeeze(1);
    LossValue value;
    value.sum = -(picked * kept).sum() * factor;
    value.weight = host.get("label").ge(0).sum().item<double>();
    value.scalars = {{"ones", kept.sum()}};
    return value;
  }
};

// Plain gradient descent that keeps the last gradients for the tests to look at.
class TinySgd final : public Optimizer {
 public:
  void prepare(const std::vector<NamedTensor>& weights) override { weights_ = weights; }
  void step(double lr) override {
    const at::NoGradGuard no_grad;
    gradients.clear();
    for (auto& weight : weights_) {
      if (!weight.tensor.grad().defined()) continue;
      if (keep_gradients) gradients.push_back(weight.tensor.grad().clone());
      weight.tensor.sub_(weight.tensor.grad(), lr);
    }
    ++steps;
  }
  std::vector<NamedTensor> state() override { return {}; }
  double learning_rate() const override { return 0.1; }
  std::uint64_t state_bytes(std::uint64_t) const override { return 0; }

  std::vector<at::Tensor> gradients;
  int steps = 0;
  bool keep_gradients = true;

 private:
  std::vector<NamedTensor> weights_;
};

}  // namespace sluice::fakes
