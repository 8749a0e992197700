// All is laid out with the channels last: then a tap's inputs are rows of a matrix.
#include "framework/train/weight_gradient.hpp"

#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

namespace sluice {
namespace {

std::int64_t at_axis(at::IntArrayRef values, std::int64_t axis) { return values.size() == 1 ? values[0] : values[static_cast<std::size_t>(axis)]; }

// [B, ..., C] of [B, C, ...]
at::Tensor channels_to_the_end(const at::Tensor& x) { return x.movedim(1, -1); }

}  // namespace

bool is_plain(const ConvolutionShape& shape) { return !shape.transposed && shape.groups == 1; }

bool wide_over_few_positions(const at::Tensor& output_gradient, const at::Tensor& weight) {
  constexpr std::int64_t wide = 256 * 512, few = 128;
  std::int64_t positions = 1, taps = 1;
  for (std::int64_t axis = 2; axis < output_gradient.dim(); ++axis) positions *= output_gradient.size(axis);
  for (std::int64_t axis = 2; axis < weight.dim(); ++axis) taps *= weight.size(axis);
  return taps > 1 && weight.size(0) * weight.size(1) >= wide && positions <= few;
}

at::Tensor weight_gradient(const at::Tensor& output_gradient, const at::Tensor& input, const at::Tensor& weight, const ConvolutionShape& shape) {
  const std::int64_t axes = weight.dim() - 2, outputs = weight.size(0), channels = weight.size(1);
  std::vector<std::int64_t> margins{0, 0};  // of the last axis first
  std::int64_t taps = 1;
  for (std::int64_t axis = axes - 1; axis >= 0; --axis) {
    const std::int64_t margin = at_axis(shape.padding, axis);
    margins.insert(margins.end(), {margin, margin});
    taps *= weight.size(axis + 2);
  }
  const at::Tensor padded = at::constant_pad_nd(channels_to_the_end(input).contiguous(), margins);
  const at::Tensor rows = channels_to_the_end(output_gradient).reshape({-1, outputs}).t();  // [O, positions]
  at::Tensor result = at::empty({outputs, taps, channels}, weight.options());
  for (std::int64_t tap = 0; tap < taps; ++tap) {
    at::Tensor seen = padded;
    std::int64_t rest = tap;
    for (std::int64_t axis = axes - 1; axis >= 0; --axis) {
      const std::int64_t at = rest % weight.size(axis + 2) * at_axis(shape.dilation, axis), step = at_axis(shape.stride, axis);
      rest /= weight.size(axis + 2);
      seen = seen.slice(axis + 1, at, at + (output_gradient.size(axis + 2) - 1) * step + 1, step);
    }
    at::Tensor out = result.select(1, tap);
    at::mm_out(out, rows, seen.reshape({-1, channels}));
  }
  std::vector<std::int64_t> sizes{outputs};
  for (std::int64_t axis = 0; axis < axes; ++axis) sizes.push_back(weight.size(axis + 2));
  sizes.push_back(channels);
  // The layout of the weights: a gradient in another one would be copied before it is kept.
  return result.view(sizes).movedim(-1, 1).contiguous(weight.suggest_memory_format());
}

}  // namespace sluice
