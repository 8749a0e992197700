// The gradient of a convolution's weights as matrix products, one for each tap of the kernel: the gradient of the outputs times the
// inputs shifted by the tap.
//
// It needs no memory beside its result and a copy of the padded input. oneDNN's kernel for a wide layer over few positions (512 to 512
// channels, 2x4x4) takes eight times the weights beside them, and four to eleven times as long (docs/decisions/0010-kernels.md).
#pragma once

#include <ATen/core/Tensor.h>

namespace sluice {

struct ConvolutionShape {
  at::IntArrayRef stride, padding, dilation;
  bool transposed = false;
  std::int64_t groups = 1;
};

// Whether weight_gradient() can take it: no groups, not transposed.
[[nodiscard]] bool is_plain(const ConvolutionShape& shape);

// Whether products take less time and memory than the library's kernel: many channels over few positions.
[[nodiscard]] bool wide_over_few_positions(const at::Tensor& output_gradient, const at::Tensor& weight);

// output_gradient [B, O, ...], input [B, I, ...], one to three axes of positions; in the type and the layout of `weight` [O, I, ...].
[[nodiscard]] at::Tensor weight_gradient(const at::Tensor& output_gradient, const at::Tensor& input, const at::Tensor& weight, const ConvolutionShape& shape);

}  // namespace sluice
