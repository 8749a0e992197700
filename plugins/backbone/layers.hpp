// What the convolutional backbones are built from: convolutions, chains of layers and residual blocks over [B, C, T, H, W].
// Children are named as the published weights name them. ReLU and the residual sum work in place on what BatchNorm returned:
// its backward pass needs its input only, so a convolution with its BatchNorm and ReLU keeps two tensors and not three.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ops/conv3d.h>
#include <torch/nn/init.h>
#include <torch/nn/modules/batchnorm.h>

#include <sluice/torch/pass.hpp>

namespace sluice::backbone {

using Size3 = std::array<std::int64_t, 3>;  // time, height, width

// Without bias (BatchNorm follows), padded by half of the kernel; initialised for ReLU (He et al. 2015, fan out).
class Convolution : public torch::nn::Module {
 public:
  Convolution(std::int64_t in, std::int64_t out, Size3 kernel, Size3 stride)
      : stride_(stride),
        padding_{kernel[0] / 2, kernel[1] / 2, kernel[2] / 2},
        weight_(register_parameter("weight", torch::empty({out, in, kernel[0], kernel[1], kernel[2]}))) {
    torch::nn::init::kaiming_normal_(weight_, 0, torch::kFanOut, torch::kReLU);
  }
  at::Tensor forward(const at::Tensor& x) const { return at::conv3d(x, weight_, {}, stride_, padding_); }

 private:
  Size3 stride_, padding_;
  at::Tensor weight_;
};

// Layers one after the other, each under its own name.
class Chain : public torch::nn::Module {
 public:
  template <class Layer> void add(std::string name, std::shared_ptr<Layer> layer) {
    steps_.push_back([layer](const at::Tensor& x) { return layer->forward(x); });
    register_module(std::move(name), std::move(layer));
  }
  template <class Layer> void add(std::shared_ptr<Layer> layer) { add(std::to_string(steps_.size()), std::move(layer)); }
  // A step without weights; it takes a number, as in torch.nn.Sequential.
  void apply(std::function<at::Tensor(const at::Tensor&)> step) { steps_.push_back(std::move(step)); }
  void relu() { apply([](const at::Tensor& x) { return x.relu_(); }); }

  at::Tensor forward(at::Tensor x) const {
    for (const auto& step : steps_) x = step(x);
    return x;
  }
  // Each step a segment: NAME.0, NAME.1, ...
  at::Tensor forward(at::Tensor x, Pass& pass, const std::string& name) const {
    for (std::size_t i = 0; i < steps_.size(); ++i) x = pass.segment(name + "." + std::to_string(i), [step = steps_[i]](const at::Tensor& in) { return step(in); }, x);
    return x;
  }

 private:
  std::vector<std::function<at::Tensor(const at::Tensor&)>> steps_;
};

inline std::shared_ptr<torch::nn::BatchNorm3dImpl> batch_norm(std::int64_t channels, bool start_at_zero = false) {
  auto norm = std::make_shared<torch::nn::BatchNorm3dImpl>(channels);
  if (start_at_zero) torch::nn::init::zeros_(norm->weight);
  return norm;
}

// relu(body(x) + shortcut(x)); whoever derives from it fills the two, and an empty shortcut is the identity.
class Residual : public torch::nn::Module {
 public:
  at::Tensor forward(const at::Tensor& x) const {
    at::Tensor y = body_.front()->forward(x);
    for (std::size_t i = 1; i < body_.size(); ++i) y = body_[i]->forward(std::move(y));
    y += shortcut_ ? shortcut_->forward(x) : x;
    return y.relu_();
  }

 protected:
  std::vector<std::shared_ptr<Chain>> body_;
  std::shared_ptr<Chain> shortcut_;
};

}  // namespace sluice::backbone
