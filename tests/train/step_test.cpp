// One step, however it is cut, against one backward pass over the whole batch.
#include "framework/train/step.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/log_softmax.h>
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include <sluice/error.hpp>

#include "fakes.hpp"
#include "framework/train/capped_allocator.hpp"
#include "framework/train/pass.hpp"

using namespace sluice;
using namespace sluice::fakes;

namespace {

std::vector<FinishedSample> batch_of(std::size_t n, std::uint32_t seed, double ignored) {
  std::mt19937 random(seed);
  std::vector<FinishedSample> out;
  for (std::size_t i = 0; i < n; ++i) {
    const std::int64_t label = static_cast<double>(random()) / 4294967296.0 < ignored ? -1 : static_cast<std::int64_t>(random() % 3);
    out.push_back(make_sample(static_cast<std::int64_t>(i), make_clip(4, 6, 6, seed * 100 + static_cast<std::uint32_t>(i)), label));
  }
  return out;
}

struct Setup {
  TinyModel model;
  TinyLoss loss;
  TinySgd optimizer;
  Assembler assembler{{clip_and_label(4, 6, 6), {{0.5, 0.5, 0.5}, {0.25, 0.25, 0.25}, "auto"}, at::kCPU, false}};

  explicit Setup(at::ScalarType type, double dropout = 0) : model(3, type, dropout) { optimizer.prepare(model.weights()); }
  StepResult run(const std::vector<FinishedSample>& batch, std::int64_t microbatch, double clip_norm = 0) {
    Step step(model, loss, optimizer, {microbatch, clip_norm, 3});
    return step.run(assembler, batch, 0.1);
  }
};

// The oracle: mean over what counts, one backward pass, no trainer.
std::vector<at::Tensor> whole_batch_gradient(const std::vector<FinishedSample>& batch, double dropout = 0) {
  Setup setup(at::kDouble, dropout);
  const auto microbatch = setup.assembler.assemble(batch, setup.assembler.extents(batch));
  MicrobatchPass pass(true, microbatch.keys);
  const Outputs outputs = setup.model.forward(microbatch.inputs, pass);
  const at::Tensor labels = microbatch.inputs.get("label"), kept = labels.ge(0);
  const at::Tensor picked = at::log_softmax(outputs.get("logits"), 1).gather(1, labels.clamp_min(0).unsqueeze(1)).squeeze(1);
  (-(picked * kept).sum() / kept.sum()).backward();
  std::vector<at::Tensor> out;
  for (const auto& weight : setup.model.weights()) out.push_back(weight.tensor.grad());
  return out;
}

double worst_difference(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  double worst = 0;
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i)
    worst = std::max(worst, (at::linalg_vector_norm(a[i] - b[i], 2) / at::linalg_vector_norm(b[i], 2)).item<double>());
  return worst;
}

}  // namespace

// Mistake caught: a mean of means (0.9 off with ragged weights), a microbatch counted twice or not at all, a wrong last cut.
TEST_CASE("any cut of any batch gives the gradient of the whole batch, with ignored labels and dropout") {
  double worst = 0;
  for (std::uint32_t seed = 1; seed <= 6; ++seed) {
    const auto batch = batch_of(3 + seed, seed, 0.4);
    for (const double dropout : {0.0, 0.3}) {
      const auto expected = whole_batch_gradient(batch, dropout);
      for (const std::int64_t microbatch : {1, 2, 3, 4, 100}) {
        Setup setup(at::kDouble, dropout);
        const auto result = setup.run(batch, microbatch);
        CHECK(result.updated);
        CHECK(result.clips == static_cast<std::int64_t>(batch.size()));
        CHECK(result.scalars.at(0).second == doctest::Approx(1.0));
        worst = std::max(worst, worst_difference(setup.optimizer.gradients, expected));
      }
    }
  }
  CHECK(worst <= 1e-12);
  MESSAGE("worst relative difference in fp64: " << worst);
}

// Planted defect: the mean of means that the test above must be able to see.
TEST_CASE("a mean of means is far from it") {
  const auto batch = batch_of(8, 5, 0.5);
  const auto expected = whole_batch_gradient(batch);
  Setup setup(at::kDouble);
  const auto extents = setup.assembler.extents(batch);
  const std::span<const FinishedSample> all = batch;
  for (std::size_t at = 0; at < 8; at += 2) {
    const auto microbatch = setup.assembler.assemble(all.subspan(at, 2), extents);
    MicrobatchPass pass(true, microbatch.keys);
    const auto value = setup.loss(setup.model.forward(microbatch.inputs, pass), microbatch.inputs, microbatch.host);
    if (value.weight > 0) (value.sum / value.weight / 4).backward();
  }
  std::vector<at::Tensor> gradients;
  for (const auto& weight : setup.model.weights()) gradients.push_back(weight.tensor.grad());
  CHECK(worst_difference(gradients, expected) > 0.05);
}

// Mistake caught: 0 / 0 when no label counts, or a step of the optimizer on nothing.
TEST_CASE("a batch of weight 0 makes no step and leaves no gradient") {
  Setup setup(at::kDouble);
  const auto result = setup.run(batch_of(4, 2, 1.1), 2);
  CHECK_FALSE(result.updated);
  CHECK(setup.optimizer.steps == 0);
  for (const auto& weight : setup.model.weights()) CHECK_FALSE(weight.tensor.grad().defined());
  CHECK_FALSE(setup.run({}, 2).updated);
}

// Mistake caught: clipping each microbatch, or before the division.
TEST_CASE("the norm is clipped once, after the whole batch") {
  const auto batch = batch_of(6, 9, 0.2);
  auto expected = whole_batch_gradient(batch);
  double squares = 0;
  for (const auto& gradient : expected) squares += std::pow(at::linalg_vector_norm(gradient, 2).item<double>(), 2);
  const double norm = std::sqrt(squares);
  for (const double limit : {norm / 3, norm * 3}) {
    Setup setup(at::kDouble);
    const auto result = setup.run(batch, 2, limit);
    CHECK(result.gradient_norm == doctest::Approx(norm));
    double clipped = 0;
    for (const auto& gradient : setup.optimizer.gradients) clipped += std::pow(at::linalg_vector_norm(gradient, 2).item<double>(), 2);
    CHECK(std::sqrt(clipped) == doctest::Approx(std::min(norm, limit)).epsilon(1e-5));
  }
}

// Mistake caught: a step given up half way that leaves half a gradient to the next one, or that counts as done.
TEST_CASE("a step that is abandoned between microbatches never happened; after the last one it is done") {
  const auto batch = batch_of(6, 4, 0);
  Setup untouched(at::kDouble), setup(at::kDouble);
  Step step(setup.model, setup.loss, setup.optimizer, {2, 0, 3});
  int asked = 0;
  const auto result = step.run(setup.assembler, batch, 0.1, [&] { return ++asked < 2; });
  CHECK(result.abandoned);
  CHECK_FALSE(result.updated);
  CHECK(setup.optimizer.steps == 0);
  const auto again = step.run(setup.assembler, batch, 0.1);
  const auto expected = untouched.run(batch, 2);
  CHECK(again.loss == expected.loss);
  for (std::size_t i = 0; i < setup.optimizer.gradients.size(); ++i) CHECK(setup.optimizer.gradients[i].equal(untouched.optimizer.gradients[i]));
  const auto late = step.run(setup.assembler, batch, 0.1, [&, n = 0]() mutable { return ++n < 3; });
  CHECK(late.updated);
}

// Mistake caught: bytes or gradients left behind by an OOM at any allocation of the step.
TEST_CASE("an OOM at any allocation leaves weights, gradients and bytes as they were, and the next step bit-equal") {
  auto& allocator = CappedAllocator::install();
  const auto batch = batch_of(4, 3, 0);
  Setup expected(at::kFloat), setup(at::kFloat);
  setup.optimizer.keep_gradients = false;
  const double loss = expected.run(batch, 2).loss;
  Step step(setup.model, setup.loss, setup.optimizer, {2, 0, 3});
  const auto first = allocator.counters().allocations;
  {
    Setup counted(at::kFloat);
    counted.optimizer.keep_gradients = false;
    counted.run(batch, 2);
  }
  const auto count = allocator.counters().allocations - first;
  const auto live = allocator.counters().live;
  std::uint64_t failed = 0;
  for (std::uint64_t n = 1; n < count; n += 3) {
    CAPTURE(n);
    allocator.fail_at(n);
    try {
      step.run(setup.assembler, batch, 0.0);
      allocator.fail_at(0);
      break;
    } catch (const c10::OutOfMemoryError&) {
      ++failed;
    }
    for (const auto& weight : setup.model.weights()) REQUIRE_FALSE(weight.tensor.grad().defined());
    REQUIRE(allocator.counters().live == live);
  }
  CHECK(failed > 10);
  CHECK(step.run(setup.assembler, batch, 0.1).loss == loss);
}

// Mistake caught: weights torn by a loss that is no number.
TEST_CASE("a loss that is not finite updates nothing") {
  Setup setup(at::kFloat);
  {
    const at::NoGradGuard no_grad;
    setup.model.weights()[1].tensor.fill_(std::numeric_limits<float>::infinity());
  }
  const auto before = setup.model.weights()[0].tensor.clone();
  const auto result = setup.run(batch_of(2, 1, 0), 1);
  CHECK_FALSE(result.updated);
  CHECK_FALSE(std::isfinite(result.loss));
  CHECK(setup.model.weights()[0].tensor.equal(before));
}
