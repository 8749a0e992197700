// Element i of a sample with key k is kept when mix(k + i) / 2^53 >= p, over the upper 53 bits.
#include "framework/train/dropout.hpp"

#include <cmath>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bitwise_xor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/ge.h>
#include <ATen/ops/tensor.h>

#include <sluice/rng.hpp>

namespace sluice {
namespace {

std::int64_t threshold_of(double p) { return static_cast<std::int64_t>(std::ceil(p * 0x1.0p53)); }

std::vector<std::int64_t> broadcast_sizes(const at::Tensor& x, bool whole_sample) {
  std::vector<std::int64_t> sizes = x.sizes().vec();
  if (whole_sample)
    for (std::size_t i = 1; i < sizes.size(); ++i) sizes[i] = 1;
  return sizes;
}

// The layout of x, so that what is computed with the mask keeps it.
at::Tensor like(const at::Tensor& mask, const at::Tensor& x, bool whole_sample) {
  if (whole_sample || x.is_contiguous()) return mask;
  return at::empty_like(x, x.options().dtype(at::kBool)).copy_(mask);
}

// sluice::mix_bits in arithmetic of signed 64-bit tensors, which wraps; a logical shift is an arithmetic one and a mask.
at::Tensor shifted(const at::Tensor& x, std::int64_t by) { return x.bitwise_right_shift(by).bitwise_and((std::int64_t{1} << (64 - by)) - 1); }
at::Tensor mixed(at::Tensor x) {
  x = x + static_cast<std::int64_t>(0x9e3779b97f4a7c15u);
  x = (x.bitwise_xor(shifted(x, 30))) * static_cast<std::int64_t>(0xbf58476d1ce4e5b9u);
  x = (x.bitwise_xor(shifted(x, 27))) * static_cast<std::int64_t>(0x94d049bb133111ebu);
  return x.bitwise_xor(shifted(x, 31));
}

}  // namespace

at::Tensor detail::mask_by_loop(const at::Tensor& x, std::span<const std::uint64_t> sample_keys, double p, bool whole_sample) {
  const auto sizes = broadcast_sizes(x, whole_sample);
  at::Tensor mask = at::empty(sizes, x.options().dtype(at::kBool).memory_format(at::MemoryFormat::Contiguous));
  const std::int64_t total = mask.numel();
  const std::int64_t each = total / std::max<std::int64_t>(1, mask.size(0));
  const auto threshold = static_cast<std::uint64_t>(threshold_of(p));
  auto* to = mask.mutable_data_ptr<bool>();
  at::parallel_for(0, total, 16384, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      to[i] = (mix_bits(sample_keys[static_cast<std::size_t>(i / each)] + static_cast<std::uint64_t>(i % each)) >> 11) >= threshold;
  });
  return like(mask, x, whole_sample);
}

at::Tensor detail::mask_by_operations(const at::Tensor& x, std::span<const std::uint64_t> sample_keys, double p, bool whole_sample) {
  const auto sizes = broadcast_sizes(x, whole_sample);
  std::vector<std::int64_t> keys(sample_keys.begin(), sample_keys.end());
  const std::int64_t clips = static_cast<std::int64_t>(keys.size());
  std::int64_t each = 1;
  for (std::size_t i = 1; i < sizes.size(); ++i) each *= sizes[i];
  const at::Tensor counters = at::tensor(keys, at::kLong).to(x.device()).unsqueeze(1) + at::arange(each, x.options().dtype(at::kLong)).unsqueeze(0);
  const at::Tensor mask = shifted(mixed(counters), 11).ge(threshold_of(p)).view(sizes);
  return like(mask.reshape(sizes), x, whole_sample || clips == 0);
}

at::Tensor dropout_mask(const at::Tensor& x, std::span<const std::uint64_t> sample_keys, double p, bool whole_sample) {
  return x.is_cpu() ? detail::mask_by_loop(x, sample_keys, p, whole_sample) : detail::mask_by_operations(x, sample_keys, p, whole_sample);
}

}  // namespace sluice
