// The random mask of a dropout, from one key a sample: integer arithmetic alone, so that every device and every cut of the
// batch into microbatches gives the same bits.
#pragma once

#include <cstdint>
#include <span>

#include <ATen/core/Tensor.h>

namespace sluice {

// Boolean, as `x` in shape, layout and device; true (kept) with probability 1 - p. Element i of a sample, counted in the order of
// its axes, follows from the sample's key and i; with `whole_sample` all elements of a sample share one draw.
[[nodiscard]] at::Tensor dropout_mask(const at::Tensor& x, std::span<const std::uint64_t> sample_keys, double p, bool whole_sample);

namespace detail {
// The two ways to make it, equal bit by bit: a loop for the CPU, operations of the device for others.
[[nodiscard]] at::Tensor mask_by_loop(const at::Tensor& x, std::span<const std::uint64_t> sample_keys, double p, bool whole_sample);
[[nodiscard]] at::Tensor mask_by_operations(const at::Tensor& x, std::span<const std::uint64_t> sample_keys, double p, bool whole_sample);
}  // namespace detail

}  // namespace sluice
