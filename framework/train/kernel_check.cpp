// The operation is called through the dispatcher, as networks call it; where a tensor stood, a random one of its shape stands.
#include "framework/train/kernel_check.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/autograd.h>

#include "framework/train/convolution_products.hpp"

namespace sluice {
namespace {

using Tensors = std::vector<at::Tensor>;

bool is_convolution(const KernelCall& call) { return call.operation == "aten::convolution"; }
bool is_attention(const KernelCall& call) { return call.operation == "aten::scaled_dot_product_attention"; }
bool has_statistics(const KernelCall& call) { return call.operation == "aten::batch_norm" || call.operation == "aten::instance_norm"; }

// Input, weight and bias, or queries, keys and values; not the running statistics of a norm, nor the mask of an attention.
bool learns(const KernelCall& call, std::size_t place) { return !((has_statistics(call) || is_attention(call)) && place >= 3); }

Tensors random_tensors(const KernelCall& call) {
  Tensors tensors;
  for (std::size_t i = 0; i < call.arguments.size(); ++i) {
    const auto* shape = std::get_if<TensorShape>(&call.arguments[i]);
    if (!shape) continue;
    at::Tensor values;
    if (shape->type == at::kBool) values = at::ones(shape->sizes, at::kBool);
    else if (has_statistics(call) && !learns(call, i)) values = at::rand(shape->sizes) + 0.5;  // a variance is positive
    else values = at::randn(shape->sizes);
    tensors.push_back(values.to(shape->type).contiguous(shape->format));
  }
  return tensors;
}

at::Tensor run_in_library(const KernelCall& call, const Tensors& tensors) {
  const auto operation = c10::Dispatcher::singleton().findSchemaOrThrow(call.operation.c_str(), "");
  torch::jit::Stack stack;
  std::size_t next = 0;
  for (const auto& argument : call.arguments) {
    std::visit(
        [&](const auto& value) {
          using T = std::decay_t<decltype(value)>;
          if constexpr (std::is_same_v<T, std::monostate>) stack.emplace_back();
          else if constexpr (std::is_same_v<T, TensorShape>) stack.emplace_back(tensors.at(next++));
          else stack.emplace_back(value);
        },
        argument);
  }
  operation.callBoxed(stack);
  return stack.at(0).toTensor();
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  const double error = at::linalg_vector_norm(a.to(at::kFloat) - b, 2).item<double>(), size = at::linalg_vector_norm(b, 2).item<double>();
  const double relative = size > 0 ? error / size : error;
  return std::isfinite(relative) ? relative : std::numeric_limits<double>::infinity();
}

struct Results {
  at::Tensor output;
  Tensors gradients;  // of the tensors that learn
};

Results results_of(const KernelCall& call, const RunKernel& run, const Tensors& tensors, const at::Tensor* gradient) {
  const c10::AutoGradMode with_gradients(true);
  Tensors leaves;
  for (std::size_t place = 0; place < call.arguments.size(); ++place) {
    if (!std::holds_alternative<TensorShape>(call.arguments[place])) continue;
    leaves.push_back(tensors[leaves.size()].detach());
    if (learns(call, place) && leaves.back().is_floating_point()) leaves.back().set_requires_grad(true);
  }
  const at::Tensor output = run(call, leaves);
  Results results{output.detach(), {}};
  output.backward(gradient->to(output.scalar_type()));
  for (const auto& leaf : leaves)
    if (leaf.requires_grad()) results.gradients.push_back(leaf.grad());
  return results;
}

const std::vector<std::int64_t>& list_at(const KernelCall& call, std::size_t place) { return std::get<std::vector<std::int64_t>>(call.arguments.at(place)); }

KernelErrors compare(const KernelCall& call, const RunKernel& run) {
  const Tensors tensors = random_tensors(call);
  Tensors exact;
  for (const auto& tensor : tensors) exact.push_back(tensor.is_floating_point() ? tensor.to(at::kFloat) : tensor);
  at::Tensor gradient;
  {
    const at::NoGradGuard no_grad;
    gradient = at::randn(run_in_library(call, exact).sizes()).to(tensors.front().scalar_type());
  }
  const Results ours = results_of(call, run, tensors, &gradient);
  const Results oracle = results_of(call, run_in_library, exact, &gradient);

  KernelErrors errors;
  errors.output = distance(ours.output, oracle.output);
  for (std::size_t i = 0; i < ours.gradients.size(); ++i) {
    if (!ours.gradients[i].defined() || !oracle.gradients[i].defined()) continue;
    double& error = i == 0 || is_attention(call) ? errors.input_gradient : errors.weight_gradient;
    error = std::max(error, distance(ours.gradients[i], oracle.gradients[i]));
  }
  if (is_convolution(call)) {
    const ConvolutionShape shape{list_at(call, 3), list_at(call, 4), list_at(call, 5), std::get<bool>(call.arguments.at(6)), std::get<std::int64_t>(call.arguments.at(8))};
    errors.products = is_plain(shape) ? distance(weight_gradient_by_products(gradient, tensors[0], tensors[1], shape), oracle.gradients[1]) : std::numeric_limits<double>::infinity();
  }
  return errors;
}

// A convolution over a picture of half the size, while it stays as large as the kernel.
std::optional<KernelCall> smaller(KernelCall call) {
  if (!is_convolution(call)) return std::nullopt;
  auto& input = std::get<TensorShape>(call.arguments[0]);
  const auto& weight = std::get<TensorShape>(call.arguments[1]);
  const auto axes = input.sizes.size();
  if (axes < 4) return std::nullopt;
  for (auto axis = axes - 2; axis < axes; ++axis) {
    input.sizes[axis] /= 2;
    if (input.sizes[axis] < weight.sizes[axis]) return std::nullopt;
  }
  return call;
}

}  // namespace

KernelRoutes::Trust judge(const KernelErrors& errors, at::ScalarType type) {
  const double limit = 16 * (type == at::kBFloat16 ? std::ldexp(1.0, -9) : std::ldexp(1.0, -12));
  return {errors.output <= limit, errors.input_gradient <= limit, errors.weight_gradient <= limit, errors.products <= limit};
}

KernelErrors check_kernel(const KernelCall& call, const RunKernel& run) {
  const auto less = smaller(call);
  try {
    return compare(call, run ? run : run_in_library);
  } catch (const c10::OutOfMemoryError&) {
    if (!less) throw;
  }
  return check_kernel(*less, run);
}

}  // namespace sluice
