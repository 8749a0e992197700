// Draws that follow from the sample alone: the same for any cut of the batch, on any path, in any layout.
#include "framework/train/dropout.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include <sluice/error.hpp>

#include "framework/train/pass.hpp"

using namespace sluice;

namespace {

std::vector<std::uint64_t> keys(std::size_t n) {
  std::vector<std::uint64_t> out;
  for (std::size_t i = 0; i < n; ++i) out.push_back(1000 + 17 * i);
  return out;
}

// Two named segments with two draws each and one outside: what a network does.
at::Tensor network(const at::Tensor& x, Pass& pass) {
  const auto block = [&pass](const at::Tensor& y) { return pass.drop_path(pass.dropout(y, 0.3), 0.5); };
  at::Tensor y = pass.segment("a", block, x);
  y = pass.segment("b", block, y);
  y = pass.segment("a", block, y);  // the same name again draws anew
  return pass.dropout(y, 0.1);
}

}  // namespace

// Mistake caught: random numbers that belong to the position in the microbatch, so that the plan changes what is learnt.
TEST_CASE("microbatches of 1, 3 and 8 draw the same masks") {
  const at::Tensor x = at::ones({8, 4, 3, 5, 5});
  const auto all = keys(8);
  MicrobatchPass whole(true, all);
  const at::Tensor expected = network(x, whole);
  for (const std::int64_t cut : {1, 3, 8}) {
    std::vector<at::Tensor> parts;
    for (std::int64_t at = 0; at < 8; at += cut) {
      const std::int64_t n = std::min<std::int64_t>(cut, 8 - at);
      MicrobatchPass pass(true, {all.begin() + at, all.begin() + at + n});
      parts.push_back(network(x.narrow(0, at, n), pass));
    }
    CHECK(at::cat(parts).equal(expected));
  }
}

// Mistake caught: the device's arithmetic differs from the loop's in a shift or a sign.
TEST_CASE("the loop and the device's operations give the same bits, in any layout") {
  const auto all = keys(5);
  for (const double p : {0.0001, 0.25, 0.5, 0.9999})
    for (const bool whole_sample : {false, true}) {
      const at::Tensor x = at::ones({5, 3, 4, 6, 2});
      const at::Tensor loop = detail::mask_by_loop(x, all, p, whole_sample);
      CHECK(loop.equal(detail::mask_by_operations(x, all, p, whole_sample)));
      const at::Tensor last = x.contiguous(at::MemoryFormat::ChannelsLast3d);
      CHECK(loop.equal(detail::mask_by_loop(last, all, p, whole_sample)));
      CHECK(loop.equal(detail::mask_by_operations(last, all, p, whole_sample)));
    }
}

// Mistake caught: a network that turns to another memory format behind a dropout, and to other kernels with it.
TEST_CASE("the layout stays") {
  const at::Tensor x = at::ones({2, 3, 4, 6, 2}).contiguous(at::MemoryFormat::ChannelsLast3d);
  MicrobatchPass pass(true, keys(2));
  CHECK(pass.dropout(x, 0.5).is_contiguous(at::MemoryFormat::ChannelsLast3d));
  CHECK(pass.drop_path(x, 0.5).is_contiguous(at::MemoryFormat::ChannelsLast3d));
}

// Mistake caught: a rate that is off, the two ends swapped, a missing 1 / (1 - p), neighbours that hang together.
TEST_CASE("the share that is kept is 1 - p within five standard deviations, the mean stays, samples and draws are independent") {
  const double n = 4.0 * 100000;
  const at::Tensor x = at::ones({4, 100000});
  for (const double p : {0.1, 0.5, 0.8}) {
    MicrobatchPass pass(true, keys(4));
    const at::Tensor first = pass.dropout(x, p), second = pass.dropout(x, p);
    const double kept = first.ne(0).sum().item<double>() / n;
    CHECK(std::abs(kept - (1 - p)) < 5 * std::sqrt(p * (1 - p) / n));
    CHECK(first.max().item<double>() == doctest::Approx(1 / (1 - p)));
    const double both = first.ne(0).logical_and(second.ne(0)).sum().item<double>() / n;
    CHECK(both == doctest::Approx((1 - p) * (1 - p)).epsilon(0.02));
    const double neighbours = first.narrow(1, 0, 99999).ne(0).logical_and(first.narrow(1, 1, 99999).ne(0)).sum().item<double>() / (4.0 * 99999);
    CHECK(neighbours == doctest::Approx((1 - p) * (1 - p)).epsilon(0.02));
    const double samples = first[0].ne(0).logical_and(first[1].ne(0)).sum().item<double>() / 100000;
    CHECK(samples == doctest::Approx((1 - p) * (1 - p)).epsilon(0.03));
  }
}

// Mistake caught: a gradient that passes where nothing passed forward.
TEST_CASE("the gradient is the mask over 1 - p; evaluation and p = 0 change nothing") {
  const at::Tensor x = at::randn({3, 50}, at::kDouble).set_requires_grad(true);
  MicrobatchPass pass(true, keys(3));
  const at::Tensor y = pass.dropout(x, 0.4);
  y.sum().backward();
  CHECK(x.grad().equal(y.detach().ne(0).to(at::kDouble) / 0.6));
  MicrobatchPass eval(false, keys(3));
  CHECK(eval.dropout(x, 0.4).is_same(x));
  CHECK(pass.dropout(x, 0).is_same(x));
  CHECK_THROWS_AS(static_cast<void>(pass.dropout(x, 1.0)), Error);
  CHECK_THROWS_WITH_AS(static_cast<void>(pass.dropout(at::ones({7, 3}), 0.5)), doctest::Contains("axis 0 is not the clip"), Error);
}
