// Loss scaling and the types in which a step computes.
#include "framework/train/precision.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <doctest/doctest.h>

#include "fakes.hpp"
#include "framework/train/kernel_routes.hpp"
#include "framework/train/pass.hpp"
#include "framework/train/step.hpp"

using namespace sluice;
using namespace sluice::fakes;

namespace {

// Notes in which type it is computed.
class WatchedLoss final : public Loss {
 public:
  TinyLoss loss;
  std::vector<at::ScalarType> seen;  // types of the outputs
  bool under_autocast = false;
  LossValue operator()(const Outputs& outputs, const Inputs& inputs, const Inputs& host) override {
    seen.push_back(outputs.get("logits").scalar_type());
    under_autocast = under_autocast || at::autocast::is_autocast_enabled(at::kCPU);
    return loss(outputs, inputs, host);
  }
};

struct Setup {
  TinyModel model{3, at::kFloat};
  WatchedLoss loss;
  TinySgd optimizer;
  Assembler assembler{{clip_and_label(4, 6, 6), {{0.5, 0.5, 0.5}, {0.25, 0.25, 0.25}, "auto"}, at::kCPU, false}};
  std::vector<FinishedSample> batch;
  Step step;

  explicit Setup(Precision precision, std::int64_t microbatch = 4) : step(model, loss, optimizer, options(precision, microbatch)) {
    optimizer.prepare(model.weights());
    for (std::int64_t i = 0; i < 12; ++i) batch.push_back(make_sample(i, make_clip(4, 6, 6, static_cast<std::uint32_t>(i)), i % 3));
    KernelRoutes::instance().trust_all(true);
  }
  static StepOptions options(Precision precision, std::int64_t microbatch) {
    StepOptions options;
    options.microbatch = microbatch;
    options.classes = 3;
    options.arithmetic.precision = precision;
    return options;
  }
  StepResult run() { return step.run(assembler, batch, 0.1); }
  std::vector<at::Tensor> weights() {
    std::vector<at::Tensor> out;
    for (const auto& weight : model.weights()) out.push_back(weight.tensor.detach().clone());
    return out;
  }
};

double worst_difference(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, (at::linalg_vector_norm(a[i] - b[i], 2) / at::linalg_vector_norm(b[i], 2)).item<double>());
  return worst;
}

}  // namespace

// Mistake caught: a scale that is not taken off again, or taken off twice; master weights or gradients in 16 bits; a loss that
// computes in the network's type; a step that ignores its precision (then the gradients would be equal).
TEST_CASE("a step in bf16 and fp16 has the gradient of fp32 but for rounding") {
  Setup exact(Precision::fp32);
  exact.run();
  for (const auto& [precision, rounding] : {std::pair(Precision::bf16, 0.02), std::pair(Precision::fp16, 0.003)}) {
    for (const std::int64_t microbatch : {1, 4, 12}) {
      Setup setup(precision, microbatch);
      const auto result = setup.run();
      CHECK(result.updated);
      for (const auto& gradient : setup.optimizer.gradients) CHECK((gradient.scalar_type() == at::kFloat));
      for (const auto type : setup.loss.seen) CHECK((type == at::kFloat));
      CHECK(!setup.loss.under_autocast);
      CHECK(!at::autocast::is_autocast_enabled(at::kCPU));
      const double difference = worst_difference(setup.optimizer.gradients, exact.optimizer.gradients);
      CHECK(difference < rounding);
      CHECK(difference > 0);
    }
  }
}

// Mistake caught: an update with infinite gradients; a scale that never falls; statistics or weights that a skipped batch moved.
TEST_CASE("fp16: an overflow gives no update and halves the scale until it fits, and then the gradient is right") {
  Setup exact(Precision::fp32), setup(Precision::fp16);
  exact.loss.loss.factor = setup.loss.loss.factor = 1e5;  // 65,536 times that is far beyond the 65,504 of fp16
  exact.run();
  const auto before = setup.weights();
  int skipped = 0;
  for (;; ++skipped) {
    REQUIRE(skipped < 30);
    const double scale = setup.step.scaler().scale();
    const auto result = setup.run();
    if (result.updated) break;
    CHECK(result.overflow);
    CHECK(setup.step.scaler().scale() == scale / 2);
    CHECK(worst_difference(setup.weights(), before) == 0);
  }
  CHECK(skipped > 3);
  CHECK(worst_difference(setup.optimizer.gradients, exact.optimizer.gradients) < 0.003);
}

// Mistake caught: a loss that is no number in any scale halving the scale for ever, with no end to the run.
TEST_CASE("where no scale helps, an overflow is none") {
  Setup setup(Precision::fp16);
  setup.loss.loss.factor = std::numeric_limits<double>::infinity();
  int halved = 0;
  while (setup.run().overflow) REQUIRE(++halved < 40);
  CHECK(halved == 16);
  Setup other(Precision::bf16);
  other.loss.loss.factor = std::numeric_limits<double>::infinity();
  const auto result = other.run();
  CHECK(!result.updated);
  CHECK(!result.overflow);
}

// Mistake caught: a sum over a large batch that overflows at the first backward operation, whatever the gradients are; a scale that
// depends on how the batch is cut.
TEST_CASE("what a backward pass begins with does not grow with the weight of the batch") {
  LossScaler scaler(Precision::fp16);
  CHECK(scaler.seed(1) == 65536);
  CHECK(scaler.seed(12) == 4096);
  CHECK(scaler.seed(16) == 4096);
  CHECK(scaler.seed(1e6) == doctest::Approx(65536.0 / 1048576));
  CHECK(scaler.seed(0) == 65536);
  for (const std::int64_t microbatch : {1, 4, 5, 12}) {
    Setup setup(Precision::fp16, microbatch);
    CHECK(setup.run().seed == 4096);
  }
  CHECK(LossScaler(Precision::bf16).seed(100) == 1);
}

// Mistake caught: a scale that starts anew after a resume (then the first batches would be skipped that the first run trained on).
TEST_CASE("a scale grows after many good steps, and travels with its count") {
  LossScaler scaler(Precision::fp16);
  CHECK(scaler.overflowed());
  for (int i = 0; i < 1999; ++i) scaler.updated();
  LossScaler resumed(Precision::fp16);
  resumed.restore(scaler.state());
  CHECK(resumed.scale() == 32768);
  resumed.updated();
  CHECK(resumed.scale() == 65536);
  CHECK(resumed.state() == LossScaler::State{65536, 0});
}

// Mistake caught: a probe that says yes to everything.
TEST_CASE("support is tried, and instructions are read from the processor") {
  CHECK(precision_support({Precision::fp32, at::kCPU}).works);
  for (const auto precision : {Precision::bf16, Precision::fp16}) {
    const auto support = precision_support({precision, at::kCPU});
    CHECK(support.works);
    CHECK(support.native == support.why.empty());
  }
  CHECK(!precision_support({Precision::bf16, at::kCUDA}).works);
}
