// A convolution and its gradients as matrix products over the channels-last layout: rows of inputs seen through the kernel's taps, or a
// product for each tap.
//
// They take no memory beside their results but a few MiB. oneDNN copies the weights into an order of its own for every pass, and its
// weight gradient of a wide layer over few positions (512 to 512 channels, 2x4x4) takes eight times the weights beside them, and four to
// eleven times as long (docs/decisions/0010-kernels.md).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

namespace sluice {

struct ConvolutionShape {
  at::IntArrayRef stride, padding, dilation;
  bool transposed = false;
  std::int64_t groups = 1;
};

// Whether products can take it: no groups, not transposed.
[[nodiscard]] bool is_plain(const ConvolutionShape& shape);

// Whether products give what the library would: plain, real numbers of one type, sizes that fit each other. All else is the library's to
// do or to refuse, for its messages name the mistake.
[[nodiscard]] bool is_sound(const at::Tensor& input, const at::Tensor& weight, const ConvolutionShape& shape);

// Whether they take less time and memory than the library's kernels: many channels over few positions of the output [B, O, ...].
[[nodiscard]] bool wide_over_few_positions(at::IntArrayRef output, const at::Tensor& weight);

// Whether the weights lie as rows of (taps, channels): otherwise convolution_by_products() and input_gradient_by_products() copy them.
[[nodiscard]] bool channels_lie_last(const at::Tensor& weight);

// Of a convolution that is sound.
[[nodiscard]] std::vector<std::int64_t> output_sizes(const at::Tensor& input, const at::Tensor& weight, const ConvolutionShape& shape);

// input [B, I, ...], weight [O, I, ...], output [B, O, ...], one to three axes of positions; results in the type of what goes in and with
// the channels last, the weight gradient in the layout of the weights. 16-bit types are summed in fp32 and rounded once.
[[nodiscard]] at::Tensor convolution_by_products(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias, const ConvolutionShape& shape);
[[nodiscard]] at::Tensor input_gradient_by_products(const at::Tensor& output_gradient, const at::Tensor& input, const at::Tensor& weight, const ConvolutionShape& shape);
[[nodiscard]] at::Tensor weight_gradient_by_products(const at::Tensor& output_gradient, const at::Tensor& input, const at::Tensor& weight, const ConvolutionShape& shape);

}  // namespace sluice
