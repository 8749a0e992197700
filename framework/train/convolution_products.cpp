// All is laid out with the channels last: then what a tap sees are rows of a matrix.
#include "framework/train/convolution_products.hpp"

#include <algorithm>

#include <ATen/core/Tensor.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

namespace sluice {
namespace {

using Sizes = std::vector<std::int64_t>;

std::int64_t at_axis(at::IntArrayRef values, std::int64_t axis) { return values.size() == 1 ? values[0] : values[static_cast<std::size_t>(axis)]; }

// [B, ..., C] of [B, C, ...], and back.
at::Tensor channels_to_the_end(const at::Tensor& x) { return x.movedim(1, -1); }
at::Tensor channels_to_the_front(const at::Tensor& x) { return x.movedim(-1, 1); }

std::int64_t taps_of(const at::Tensor& weight) {
  std::int64_t taps = 1;
  for (std::int64_t axis = 2; axis < weight.dim(); ++axis) taps *= weight.size(axis);
  return taps;
}

// Zeros around the positions of [B, ..., C].
at::Tensor padded(const at::Tensor& x, const ConvolutionShape& shape) {
  Sizes margins{0, 0};  // of the last axis first
  for (std::int64_t axis = x.dim() - 3; axis >= 0; --axis) margins.insert(margins.end(), 2, at_axis(shape.padding, axis));
  return at::constant_pad_nd(x.contiguous(), margins);
}

// What the tap sees of the padded [B, ..., C] at each position of the output: a view [B, positions..., C].
at::Tensor seen_by(std::int64_t tap, const at::Tensor& x, const at::Tensor& weight, at::IntArrayRef positions, const ConvolutionShape& shape) {
  at::Tensor seen = x;
  for (std::int64_t axis = weight.dim() - 3; axis >= 0; --axis) {
    const std::int64_t extent = weight.size(axis + 2), step = at_axis(shape.stride, axis), start = tap % extent * at_axis(shape.dilation, axis);
    tap /= extent;
    seen = seen.slice(axis + 1, start, start + (positions[static_cast<std::size_t>(axis)] - 1) * step + 1, step);
  }
  return seen;
}

// Rows of (taps, channels) of so many clips at a time stay within a few MiB.
std::int64_t clips_at_once(std::int64_t clips, std::int64_t values_of_a_clip, const at::Tensor& weight) {
  constexpr std::int64_t most = 8 << 20;
  return std::clamp<std::int64_t>(most / std::max<std::int64_t>(1, values_of_a_clip * weight.element_size()), 1, std::max<std::int64_t>(1, clips));
}

Sizes joined(std::int64_t first, at::IntArrayRef middle, Sizes last) {
  Sizes sizes{first};
  sizes.insert(sizes.end(), middle.begin(), middle.end());
  sizes.insert(sizes.end(), last.begin(), last.end());
  return sizes;
}

std::int64_t product(at::IntArrayRef sizes) {
  std::int64_t all = 1;
  for (const auto size : sizes) all *= size;
  return all;
}

}  // namespace

bool is_plain(const ConvolutionShape& shape) { return !shape.transposed && shape.groups == 1; }

bool is_sound(const at::Tensor& input, const at::Tensor& weight, const ConvolutionShape& shape) {
  const auto positive = [](std::int64_t value) { return value > 0; };
  if (!is_plain(shape) || !weight.is_floating_point() || input.scalar_type() != weight.scalar_type()) return false;
  if (input.dim() != weight.dim() || input.dim() < 3 || input.size(1) != weight.size(1) || input.numel() == 0) return false;
  if (!std::all_of(shape.stride.begin(), shape.stride.end(), positive) || !std::all_of(shape.dilation.begin(), shape.dilation.end(), positive)) return false;
  if (std::any_of(shape.padding.begin(), shape.padding.end(), [](std::int64_t value) { return value < 0; })) return false;
  const Sizes sizes = output_sizes(input, weight, shape);
  return std::all_of(sizes.begin(), sizes.end(), positive);
}

bool wide_over_few_positions(at::IntArrayRef output, const at::Tensor& weight) {
  constexpr std::int64_t wide = 256 * 512, few = 128;
  return taps_of(weight) > 1 && weight.size(0) * weight.size(1) >= wide && product(output.slice(2)) <= few;
}

bool channels_lie_last(const at::Tensor& weight) { return channels_to_the_end(weight).is_contiguous(); }

Sizes output_sizes(const at::Tensor& input, const at::Tensor& weight, const ConvolutionShape& shape) {
  Sizes sizes{input.size(0), weight.size(0)};
  for (std::int64_t axis = 0; axis < weight.dim() - 2; ++axis) {
    const std::int64_t reach = at_axis(shape.dilation, axis) * (weight.size(axis + 2) - 1) + 1;
    sizes.push_back((input.size(axis + 2) + 2 * at_axis(shape.padding, axis) - reach) / at_axis(shape.stride, axis) + 1);
  }
  return sizes;
}

at::Tensor convolution_by_products(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias, const ConvolutionShape& shape) {
  const Sizes sizes = output_sizes(input, weight, shape), positions(sizes.begin() + 2, sizes.end());
  const std::int64_t taps = taps_of(weight), channels = weight.size(1), outputs = weight.size(0), clips = input.size(0);
  const at::Tensor matrix = channels_to_the_end(weight).reshape({outputs, taps * channels}).t();
  at::Tensor result = at::empty(joined(clips, positions, {outputs}), input.options());
  const std::int64_t each = clips_at_once(clips, product(positions) * taps * channels, weight);
  for (std::int64_t first = 0; first < clips; first += each) {
    const std::int64_t count = std::min(each, clips - first);
    const at::Tensor around = padded(channels_to_the_end(input.narrow(0, first, count)), shape);
    const at::Tensor rows = at::empty(joined(count, positions, {taps, channels}), input.options());
    for (std::int64_t tap = 0; tap < taps; ++tap) rows.select(-2, tap).copy_(seen_by(tap, around, weight, positions, shape));
    at::Tensor out = result.narrow(0, first, count).view({-1, outputs});
    at::mm_out(out, rows.view({-1, taps * channels}), matrix);
  }
  if (bias && bias->defined()) result.add_(*bias);
  return channels_to_the_front(result);
}

at::Tensor input_gradient_by_products(const at::Tensor& output_gradient, const at::Tensor& input, const at::Tensor& weight, const ConvolutionShape& shape) {
  const at::IntArrayRef positions = output_gradient.sizes().slice(2), extents = input.sizes().slice(2);
  const std::int64_t taps = taps_of(weight), channels = weight.size(1), outputs = weight.size(0), clips = input.size(0);
  const at::Tensor matrix = channels_to_the_end(weight).reshape({outputs, taps * channels});
  Sizes around(extents.begin(), extents.end());
  for (std::size_t axis = 0; axis < around.size(); ++axis) around[axis] += 2 * at_axis(shape.padding, static_cast<std::int64_t>(axis));
  const auto exact = input.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor result = at::empty(joined(clips, extents, {channels}), input.options());
  const std::int64_t each = clips_at_once(clips, product(positions) * taps * channels, weight);
  for (std::int64_t first = 0; first < clips; first += each) {
    const std::int64_t count = std::min(each, clips - first);
    const at::Tensor rows = channels_to_the_end(output_gradient.narrow(0, first, count)).reshape({-1, outputs}).mm(matrix).view(joined(count, positions, {taps, channels}));
    at::Tensor sum = at::zeros(joined(count, around, {channels}), input.options().dtype(exact));
    for (std::int64_t tap = 0; tap < taps; ++tap) seen_by(tap, sum, weight, positions, shape).add_(rows.select(-2, tap));
    for (std::int64_t axis = 0; axis < weight.dim() - 2; ++axis) sum = sum.narrow(axis + 1, at_axis(shape.padding, axis), input.size(axis + 2));
    result.narrow(0, first, count).copy_(sum);
  }
  return channels_to_the_front(result);
}

at::Tensor weight_gradient_by_products(const at::Tensor& output_gradient, const at::Tensor& input, const at::Tensor& weight, const ConvolutionShape& shape) {
  const at::IntArrayRef positions = output_gradient.sizes().slice(2);
  const std::int64_t taps = taps_of(weight), channels = weight.size(1), outputs = weight.size(0);
  const at::Tensor around = padded(channels_to_the_end(input), shape);
  const at::Tensor rows = channels_to_the_end(output_gradient).reshape({-1, outputs}).t();  // [O, positions]
  const at::Tensor result = at::empty({outputs, taps, channels}, weight.options());
  for (std::int64_t tap = 0; tap < taps; ++tap) {
    at::Tensor out = result.select(1, tap);
    at::mm_out(out, rows, seen_by(tap, around, weight, positions, shape).reshape({-1, channels}));
  }
  // The layout of the weights: a gradient in another one would be copied before it is kept.
  return channels_to_the_front(result.view(joined(outputs, weight.sizes().slice(2), {channels}))).contiguous(weight.suggest_memory_format());
}

}  // namespace sluice
