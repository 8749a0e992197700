// A torch::nn::Sequential as segments of its own, so that the plan may compute some of its layers twice:
//
//   at::Tensor forward(const at::Tensor& clip, sluice::Pass& pass) override { return sluice::forward(layers_, "layers", clip, pass); }
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <torch/nn/modules/container/any.h>
#include <torch/nn/modules/container/sequential.h>

#include <sluice/torch/pass.hpp>

namespace sluice {

// One segment for each layer with kernels or matrices, with the norms and activations that follow it: an activation in place then works
// on what its own segment made, and what a segment keeps beside its borders is worth dropping. A layer that is a block of several is the
// best. Named NAME.0, NAME.3, ... by the first layer. Layers take and return one tensor.
inline at::Tensor forward(torch::nn::Sequential& layers, const std::string& name, at::Tensor x, Pass& pass) {
  std::vector<std::pair<std::size_t, std::vector<torch::nn::AnyModule>>> segments;
  std::size_t number = 0;
  for (auto& layer : *layers) {
    bool opens = segments.empty();
    for (const auto& weight : layer.ptr()->parameters()) opens = opens || weight.dim() > 1;
    if (opens) segments.emplace_back(number, std::vector<torch::nn::AnyModule>{});
    segments.back().second.push_back(layer);
    ++number;
  }
  for (auto& [first, parts] : segments)
    x = pass.segment(name + "." + std::to_string(first), [parts = std::move(parts)](const at::Tensor& in) mutable {
      at::Tensor out = in;
      for (auto& part : parts) out = part.forward<at::Tensor>(out);
      return out;
    }, x);
  return x;
}

}  // namespace sluice
