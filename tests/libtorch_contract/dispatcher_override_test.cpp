// What routing around a wrong kernel relies on: one registration, and every backward pass of a convolution comes to us.
#include "small_net.hpp"

#include <ATen/ops/conv2d.h>
#include <ATen/ops/conv_transpose3d.h>
#include <ATen/ops/convolution_backward_compositeexplicitautograd_dispatch.h>
#include <doctest/doctest.h>
#include <torch/library.h>

#include <tuple>

namespace {

using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

int calls = 0;
bool double_the_weights = false;
bool in_two_halves = false;

Gradients routed(const at::Tensor& output, const at::Tensor& input, const at::Tensor& weight,
                 at::OptionalIntArrayRef bias, at::IntArrayRef stride, at::IntArrayRef padding,
                 at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding, std::int64_t groups,
                 std::array<bool, 3> wanted) {
  const auto library = [&](std::array<bool, 3> mask) {
    return at::compositeexplicitautograd::convolution_backward(output, input, weight, bias, stride, padding, dilation,
                                                               transposed, output_padding, groups, mask);
  };
  ++calls;
  if (in_two_halves) {
    auto [of_input, none_w, none_b] = library({wanted[0], false, false});
    auto [none_i, of_weight, of_bias] = library({false, wanted[1], wanted[2]});
    return {of_input, of_weight, of_bias};
  }
  auto result = library(wanted);
  if (double_the_weights) std::get<1>(result) = std::get<1>(result).mul(2);
  return result;
}

TORCH_LIBRARY_IMPL(aten, CPU, registry) { registry.impl("convolution_backward", routed); }

std::vector<at::Tensor> step(SmallNet& net) {
  net.loss(net.features(SmallNet::input())).backward();
  return net.take_gradients();
}

}  // namespace

// Mistake caught: an override that autograd passes by (it calls the kernel directly), so that a wrong kernel stays in use.
TEST_CASE("every convolution's backward pass calls ours, and what we return is what is learnt") {
  SmallNet net;
  calls = 0;
  const std::vector<at::Tensor> plain = step(net);
  CHECK(calls == 2);
  double_the_weights = true;
  const std::vector<at::Tensor> doubled = step(net);
  double_the_weights = false;
  CHECK(bit_equal({doubled[1]}, {plain[1].mul(2)}));
}

// Mistake caught: a kernel that gives other bits when asked for one gradient alone, which the detour does.
TEST_CASE("asking for the gradients one by one gives the same bits") {
  SmallNet net;
  const std::vector<at::Tensor> plain = step(net);
  in_two_halves = true;
  const std::vector<at::Tensor> halves = step(net);
  in_two_halves = false;
  CHECK(bit_equal(halves, plain));
}

// Mistake caught: routing around conv3d alone, and not its transpose and the flat case, which have the same fault.
TEST_CASE("conv2d and transposed convolutions come the same way") {
  SmallNet net;
  calls = 0;
  at::Tensor flat = SmallNet::filled({4, 3, 3, 3}, 0.3).set_requires_grad(true);
  at::conv2d(SmallNet::filled({1, 3, 8, 8}, 0.2), flat).sum().backward();
  CHECK(calls == 1);
  at::Tensor up = SmallNet::filled({3, 4, 2, 2, 2}, 0.3).set_requires_grad(true);
  at::conv_transpose3d(SmallNet::filled({1, 3, 2, 4, 4}, 0.2), up).sum().backward();
  CHECK(calls == 2);
}
