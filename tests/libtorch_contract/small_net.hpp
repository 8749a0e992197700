// A network small enough for a test, with what makes memory interesting: conv3d, an activation, a product, a sum.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/conv3d.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/relu.h>

#include <vector>

struct SmallNet {
  at::Tensor kernel = filled({8, 3, 3, 3, 3}, 0.37).set_requires_grad(true);
  at::Tensor second = filled({8, 8, 3, 3, 3}, 0.11).set_requires_grad(true);
  at::Tensor matrix = filled({8, 5}, 0.73).set_requires_grad(true);

  // Values without a random generator: equal in every call, different in every place.
  static at::Tensor filled(at::IntArrayRef shape, double step) {
    std::int64_t count = 1;
    for (std::int64_t extent : shape) count *= extent;
    return at::arange(count, at::kFloat).mul(step).sin().div(4).view(shape).clone();
  }

  static at::Tensor input() { return filled({2, 3, 6, 16, 16}, 0.013); }

  at::Tensor features(const at::Tensor& clip) const {
    return at::relu(at::conv3d(at::relu(at::conv3d(clip, kernel)), second));
  }
  at::Tensor loss(const at::Tensor& features) const { return at::mm(features.mean({2, 3, 4}), matrix).square().sum(); }

  std::vector<at::Tensor> take_gradients() {
    std::vector<at::Tensor> out;
    for (at::Tensor* parameter : {&kernel, &second, &matrix}) {
      out.push_back(parameter->grad());
      parameter->mutable_grad() = at::Tensor();
    }
    return out;
  }
};

inline bool bit_equal(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!a[i].defined() || !b[i].defined() || !a[i].equal(b[i])) return false;
  return true;
}
