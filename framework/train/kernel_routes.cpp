// Convolutions are taken at the dispatcher's CPU key, below autograd, which their callers reach in any way; norms at the autocast
// key, where they have no rule of LibTorch's own.
#include "framework/train/kernel_routes.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <tuple>
#include <utility>

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/convolution_backward_compositeexplicitautograd_dispatch.h>
#include <ATen/ops/convolution_compositeexplicitautograd_dispatch.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/instance_norm.h>
#include <ATen/ops/layer_norm.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include "framework/train/convolution_products.hpp"

namespace sluice {

KernelRoutes& KernelRoutes::instance() {
  static KernelRoutes routes;
  return routes;
}

// An attention has no hook of ours (autocast has a rule of its own at its key): one that is wrong turns the fused kernel off for all,
// and attention is then matrix products and a softmax.
void KernelRoutes::trust(std::unordered_map<std::string, Trust> by_call) {
  const bool fused = std::none_of(by_call.begin(), by_call.end(), [](const auto& item) {
    const auto& [call, trust] = item;
    return call.find("scaled_dot_product_attention") != std::string::npos && !(trust.output && trust.input_gradient);
  });
  at::globalContext().setSDPUseFlash(fused);
  auto table = std::make_shared<const Table>(std::move(by_call));
  const std::lock_guard lock(mutex_);
  table_ = std::move(table);
}

void KernelRoutes::trust_all(bool all) {
  const std::lock_guard lock(mutex_);
  all_ = all;
}

KernelRoutes::Trust KernelRoutes::of(const KernelCall& call) const {
  std::shared_ptr<const Table> table;
  {
    const std::lock_guard lock(mutex_);
    if (all_) return everything;
    table = table_;
  }
  const auto known = table->find(call.text());
  return known == table->end() ? Trust{} : known->second;
}

namespace {

using Maybe = std::optional<at::Tensor>;
using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

bool is_reduced(const at::Tensor& tensor) { return tensor.scalar_type() == at::kBFloat16 || tensor.scalar_type() == at::kHalf; }

struct Convolution {
  at::IntArrayRef stride, padding, dilation;
  bool transposed;
  at::IntArrayRef output_padding;
  std::int64_t groups;

  [[nodiscard]] KernelRoutes::Trust trust(const at::Tensor& input, const at::Tensor& weight) const {
    const std::array<c10::IValue, 9> arguments{input, weight, c10::IValue(), stride, padding, dilation, transposed, output_padding, groups};
    return KernelRoutes::instance().of(KernelCall::of("aten::convolution", arguments));
  }
};

at::Tensor convolution(const at::Tensor& input, const at::Tensor& weight, const Maybe& bias, at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                       at::IntArrayRef output_padding, std::int64_t groups) {
  const auto run = [&](const at::Tensor& x, const at::Tensor& w, const Maybe& b) {
    return at::compositeexplicitautograd::convolution(x, w, b, stride, padding, dilation, transposed, output_padding, groups);
  };
  const ConvolutionShape shape{stride, padding, dilation, transposed, groups};
  const bool by_products = is_sound(input, weight, shape) && channels_lie_last(weight) && wide_over_few_positions(output_sizes(input, weight, shape), weight);
  if (!is_reduced(input) || Convolution{stride, padding, dilation, transposed, output_padding, groups}.trust(input, weight).output)
    return by_products ? convolution_by_products(input, weight, bias, shape) : run(input, weight, bias);
  return run(input.to(at::kFloat), weight.to(at::kFloat), bias && bias->defined() ? Maybe(bias->to(at::kFloat)) : bias).to(input.scalar_type());
}

Gradients convolution_backward(const at::Tensor& output_gradient, const at::Tensor& input, const at::Tensor& weight, at::OptionalIntArrayRef bias_sizes, at::IntArrayRef stride, at::IntArrayRef padding,
                               at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding, std::int64_t groups, std::array<bool, 3> wanted) {
  const auto run = [&](const at::Tensor& g, const at::Tensor& x, const at::Tensor& w, std::array<bool, 3> which) -> Gradients {
    if (!which[0] && !which[1] && !which[2]) return {};
    return at::compositeexplicitautograd::convolution_backward(g, x, w, bias_sizes, stride, padding, dilation, transposed, output_padding, groups, which);
  };
  const ConvolutionShape shape{stride, padding, dilation, transposed, groups};
  const bool reduced = is_reduced(input), plain = is_sound(input, weight, shape);
  const auto trust = reduced ? Convolution{stride, padding, dilation, transposed, output_padding, groups}.trust(input, weight) : KernelRoutes::everything;
  const bool small = plain && wide_over_few_positions(output_gradient.sizes(), weight);
  const bool by_products = wanted[1] && plain && trust.products && (!trust.weight_gradient || small);
  const bool input_by_products = wanted[0] && trust.input_gradient && small && channels_lie_last(weight);

  // What the library's kernel may do; what products do; and the rest in fp32.
  const std::array<bool, 3> as_is{wanted[0] && trust.input_gradient && !input_by_products, wanted[1] && !by_products && trust.weight_gradient, wanted[2]};
  const std::array<bool, 3> in_fp32{wanted[0] && !trust.input_gradient, wanted[1] && !by_products && !trust.weight_gradient, false};
  Gradients gradients = run(output_gradient, input, weight, as_is);
  if (input_by_products) std::get<0>(gradients) = input_gradient_by_products(output_gradient, input, weight, shape);
  if (by_products) std::get<1>(gradients) = weight_gradient_by_products(output_gradient, input, weight, shape);
  if (in_fp32[0] || in_fp32[1]) {
    const Gradients exact = run(output_gradient.to(at::kFloat), input.to(at::kFloat), weight.to(at::kFloat), in_fp32);
    if (in_fp32[0]) std::get<0>(gradients) = std::get<0>(exact).to(input.scalar_type());
    if (in_fp32[1]) std::get<1>(gradients) = std::get<1>(exact).to(weight.scalar_type());
  }
  return gradients;
}

// A norm under autocast: as it is, or its input in fp32.
template <class Run> at::Tensor norm(std::string_view name, const at::Tensor& input, std::span<const c10::IValue> arguments, const Run& run) {
  const c10::impl::ExcludeDispatchKeyGuard below(c10::DispatchKey::AutocastCPU);
  if (!is_reduced(input)) return run(input);
  const auto trust = KernelRoutes::instance().of(KernelCall::of(name, arguments));
  if (trust.output && trust.input_gradient && trust.weight_gradient) return run(input);
  return run(input.to(at::kFloat)).to(input.scalar_type());
}

at::Tensor batch_norm(const at::Tensor& input, const Maybe& weight, const Maybe& bias, const Maybe& mean, const Maybe& variance, bool training, double momentum, double eps, bool cudnn) {
  const std::array<c10::IValue, 9> arguments{input, weight, bias, mean, variance, training, momentum, eps, cudnn};
  return norm("aten::batch_norm", input, arguments, [&](const at::Tensor& x) { return at::batch_norm(x, weight, bias, mean, variance, training, momentum, eps, cudnn); });
}

at::Tensor instance_norm(const at::Tensor& input, const Maybe& weight, const Maybe& bias, const Maybe& mean, const Maybe& variance, bool own, double momentum, double eps, bool cudnn) {
  const std::array<c10::IValue, 9> arguments{input, weight, bias, mean, variance, own, momentum, eps, cudnn};
  return norm("aten::instance_norm", input, arguments, [&](const at::Tensor& x) { return at::instance_norm(x, weight, bias, mean, variance, own, momentum, eps, cudnn); });
}

at::Tensor layer_norm(const at::Tensor& input, at::IntArrayRef sizes, const Maybe& weight, const Maybe& bias, double eps, bool cudnn) {
  const std::array<c10::IValue, 6> arguments{input, sizes, weight, bias, eps, cudnn};
  return norm("aten::layer_norm", input, arguments, [&](const at::Tensor& x) { return at::layer_norm(x, sizes, weight, bias, eps, cudnn); });
}

at::Tensor group_norm(const at::Tensor& input, std::int64_t groups, const Maybe& weight, const Maybe& bias, double eps, bool cudnn) {
  const std::array<c10::IValue, 6> arguments{input, groups, weight, bias, eps, cudnn};
  return norm("aten::group_norm", input, arguments, [&](const at::Tensor& x) { return at::group_norm(x, groups, weight, bias, eps, cudnn); });
}

TORCH_LIBRARY_IMPL(aten, CPU, m) {
  m.impl("convolution", convolution);
  m.impl("convolution_backward", convolution_backward);
}

TORCH_LIBRARY_IMPL(aten, AutocastCPU, m) {
  m.impl("batch_norm", batch_norm);
  m.impl("instance_norm", instance_norm);
  m.impl("layer_norm", layer_norm);
  m.impl("group_norm", group_norm);
}

}  // namespace
}  // namespace sluice
