// Evaluation against the same numbers worked out one video at a time; the choice of the best and when to stop.
#include "framework/train/evaluation.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/softmax.h>
#include <c10/util/Exception.h>
#include <doctest/doctest.h>

#include <limits>
#include <memory>
#include <vector>

#include <sluice/error.hpp>

#include "fakes.hpp"
#include "framework/train/best.hpp"
#include "framework/train/capped_allocator.hpp"
#include "framework/train/pass.hpp"

using namespace sluice;
using namespace sluice::fakes;

namespace {

// Collects what it is given.
class Collector final : public Metric {
 public:
  void update(const Outputs& outputs, const Inputs& host) override {
    const at::Tensor logits = outputs.get("logits"), label = host.get("label");
    for (std::int64_t i = 0; i < logits.size(0); ++i) {
      probabilities.push_back(at::softmax(logits[i].to(at::kDouble), 0));
      raw.push_back(logits[i].to(at::kDouble));
      labels.push_back(label[i].item<std::int64_t>());
    }
  }
  void merge(const Metric&) override {}
  void reset() override { probabilities.clear(), raw.clear(), labels.clear(); }
  std::vector<std::pair<std::string, double>> result() const override { return {{"count", static_cast<double>(labels.size())}}; }

  std::vector<at::Tensor> probabilities, raw;
  std::vector<std::int64_t> labels;
};

std::vector<FinishedSample> views(std::int64_t videos, std::int64_t each) {
  std::vector<FinishedSample> out;
  for (std::int64_t i = 0; i < videos * each; ++i) out.push_back(make_sample(i, make_clip(4, 6, 6, static_cast<std::uint32_t>(i)), (i / each) % 3));
  return out;
}

struct Run {
  TinyModel model{3, at::kDouble};
  TinyLoss loss;
  std::vector<NamedMetric> metrics;
  Collector* seen;
  Assembler assembler{{clip_and_label(4, 6, 6), {}, at::kCPU, false}};
  EvalNumbers numbers;

  Run(const std::vector<FinishedSample>& samples, std::size_t microbatch, EvalOptions options) {
    auto collector = std::make_unique<Collector>();
    seen = collector.get();
    metrics.push_back({"seen", std::move(collector)});
    Evaluation evaluation(model, &loss, metrics, options);
    const std::span<const FinishedSample> all = samples;
    for (std::size_t at = 0; at < samples.size(); at += microbatch)
      evaluation.add(assembler, all.subspan(at, std::min(microbatch, samples.size() - at)));
    numbers = evaluation.finish();
  }
};

at::Tensor logits_of(const FinishedSample& sample) {
  const at::NoGradGuard no_grad;
  TinyModel model(3, at::kDouble);
  const Assembler assembler({clip_and_label(4, 6, 6), {}, at::kCPU, false});
  const std::span<const FinishedSample> one(&sample, 1);
  MicrobatchPass pass(false, {sample.key});
  return model.forward(assembler.assemble(one, assembler.extents(one)).inputs, pass).get("logits")[0];
}

}  // namespace

// Mistake caught: the last partial batch dropped, views mixed between videos at a batch's edge, probabilities averaged as logits.
TEST_CASE("every video is voted once over its views, whatever the microbatch") {
  const auto samples = views(5, 3);
  for (const std::size_t microbatch : {1, 2, 4, 15})
    for (const std::string average : {"prob", "score"}) {
      CAPTURE(microbatch);
      CAPTURE(average);
      const Run run(samples, microbatch, {3, average, 3});
      REQUIRE(run.seen->labels.size() == 5);
      CHECK(run.numbers.clips == 15);
      CHECK(run.numbers.videos == 5);
      for (std::size_t v = 0; v < 5; ++v) {
        CHECK(run.seen->labels[v] == static_cast<std::int64_t>(v % 3));
        at::Tensor score = at::zeros({3}, at::kDouble), prob = at::zeros({3}, at::kDouble);
        for (std::size_t i = 0; i < 3; ++i) {
          const at::Tensor logits = logits_of(samples[3 * v + i]);
          score += logits / 3;
          prob += at::softmax(logits, 0) / 3;
        }
        const auto difference = average == "prob" ? run.seen->probabilities[v] - prob : run.seen->raw[v] - score;
        CHECK(difference.abs().max().item<double>() < 1e-12);
      }
    }
}

// Mistake caught: a mean of the microbatches' means, or a loss that depends on the microbatch.
TEST_CASE("loss and single views do not depend on the microbatch; no gradient is kept") {
  const auto samples = views(7, 1);
  const Run one(samples, 1, {1, "prob", 3}), three(samples, 3, {1, "prob", 3});
  CHECK(one.numbers.numbers.at(0).first == "loss");
  CHECK(one.numbers.numbers.at(0).second == doctest::Approx(three.numbers.numbers.at(0).second).epsilon(1e-12));
  CHECK((one.numbers.numbers.at(1) == std::pair<std::string, double>{"seen.count", 7}));
  CHECK(three.numbers.numbers.at(1).second == 7);
  Run run(samples, 3, {1, "prob", 3});
  for (const auto& weight : run.model.weights()) CHECK_FALSE(weight.tensor.grad().defined());
}

// Mistake caught: a video that lost a view to a bad file is dropped, or divided by the wrong number.
TEST_CASE("a view that failed is left out of its video's mean") {
  auto samples = views(2, 3);
  samples.erase(samples.begin() + 1);
  const Run run(samples, 2, {3, "score", 3});
  REQUIRE(run.seen->labels.size() == 2);
  const at::Tensor expected = (logits_of(samples[0]) + logits_of(samples[1])) / 2;
  CHECK((run.seen->raw[0] - expected).abs().max().item<double>() < 1e-12);
}

// Mistake caught: the best of a loss is its largest; a NaN wins every comparison; patience off by one.
// Catches: a loss or a metric that counts a batch twice when it is tried again.
TEST_CASE("memory fails at every allocation of an evaluation in turn: each batch counts once, or the evaluation ends") {
  auto& allocator = CappedAllocator::install();
  const auto samples = views(4, 1);
  const Run straight(samples, 2, {});
  std::uint64_t allocations = allocator.counters().allocations;
  static_cast<void>(Run(samples, 2, {}));
  allocations = allocator.counters().allocations - allocations;
  int went_through = 0, ended = 0;
  for (std::uint64_t n = 1; n <= allocations; ++n) {
    CAPTURE(n);
    allocator.fail_at(n);
    try {
      const Run run(samples, 2, {});
      CHECK(run.seen->labels == straight.seen->labels);
      CHECK(run.numbers.numbers == straight.numbers.numbers);
      ++went_through;
    } catch (const Error& error) {
      CHECK(error.code() == Code::memory);
      ++ended;
    } catch (const c10::OutOfMemoryError&) {
      // While the model was built, before there was an evaluation.
    }
  }
  allocator.fail_at(0);
  CHECK(went_through > 10);
  CHECK(ended > 3);
}

TEST_CASE("best so far") {
  BestSoFar accuracy("accuracy.top1", 2);
  CHECK(accuracy.offer({{"loss", 1}, {"accuracy.top1", 0.5}}, 10, 0));
  CHECK_FALSE(accuracy.offer({{"accuracy.top1", 0.5}}, 20, 1));
  CHECK_FALSE(accuracy.stop());
  CHECK(accuracy.offer({{"accuracy.top1", 0.6}}, 30, 2));
  CHECK(accuracy.best()->step == 30);
  CHECK_FALSE(accuracy.offer({{"accuracy.top1", std::numeric_limits<double>::quiet_NaN()}}, 40, 3));
  CHECK_FALSE(accuracy.stop());
  CHECK_FALSE(accuracy.offer({{"accuracy.top1", 0.1}}, 50, 4));
  CHECK(accuracy.stop());
  for (const std::string name : {"loss", "-wer.rate"}) {
    BestSoFar lower(name, 0);
    const std::string plain = lower.metric();
    CHECK(lower.offer({{plain, 2}}, 1, 0));
    CHECK(lower.offer({{plain, 1}}, 2, 1));
    CHECK_FALSE(lower.offer({{plain, 3}}, 3, 2));
  }
  CHECK_THROWS_WITH_AS(accuracy.offer({{"loss", 1}}, 1, 0), doctest::Contains("accuracy.top1"), Error);
  BestSoFar none("", 0);
  CHECK_FALSE(none.offer({{"loss", 1}}, 1, 0));
}
