// M4 of the promises: the running statistics of batch norm are part of the result. They move once for each group of clips of a batch that was
// learnt from, whatever is computed twice, undone, tried again or skipped; and with { group = N } no plan changes them.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/conv.h>

#include <sluice/error.hpp>
#include <sluice/torch/module.hpp>
#include <sluice/torch/sequential.hpp>

#include "fakes.hpp"
#include "framework/base/bytes.hpp"
#include "framework/train/capped_allocator.hpp"
#include "framework/train/kernel_routes.hpp"
#include "framework/train/needs.hpp"
#include "framework/train/recovery.hpp"
#include "framework/train/threads.hpp"
#include "framework/train/training_plan.hpp"
#include "tests/models/training_half.hpp"

using namespace sluice;
using namespace sluice::fakes;

namespace {

constexpr std::int64_t frames = 4, size = 16;

using Make = std::function<std::unique_ptr<Model>()>;
using Batches = std::vector<std::vector<FinishedSample>>;
using Tensors = std::vector<at::Tensor>;

// Batch norm of the clip itself, so that the statistics can be told by hand; and one whose statistics are the mean over all that it saw.
class InputNorm final : public Module<Model> {
 public:
  InputNorm() {
    using namespace torch::nn;
    layers_ = register_module("layers", Sequential(BatchNorm3d(3), Conv3d(Conv3dOptions(3, 6, 3).bias(false)), BatchNorm3d(BatchNorm3dOptions(6).momentum(std::nullopt)), ReLU(ReLUOptions(true)),
                                                   Conv3d(Conv3dOptions(6, 6, {1, 3, 3})), BatchNorm3d(6)));
    fc_ = register_parameter("fc", at::randn({3, 6}));
  }
  Outputs forward(const Inputs& inputs, Pass& pass) override {
    const at::Tensor features = sluice::forward(layers_, "layers", inputs.get("clip"), pass);
    Outputs out;
    out.set("logits", at::linear(pass.dropout(features.mean({2, 3, 4}), 0.3), fc_));
    return out;
  }

 private:
  torch::nn::Sequential layers_{nullptr};
  at::Tensor fc_;
};

std::unique_ptr<Model> input_norm() {
  at::manual_seed(11);
  return std::make_unique<InputNorm>();
}
std::unique_ptr<Model> r3d() {
  at::manual_seed(12);
  const auto backbone = testing::part("backbone.r3d", {{"layers", std::vector<std::int64_t>{1, 1}}, {"width", 4}, {"stem_kernel", std::vector<std::int64_t>{3, 3, 3}}});
  return testing::recognizer(backbone, 3, {{"dropout", 0.3}});
}
const std::vector<std::pair<std::string, Make>>& networks() {
  static const std::vector<std::pair<std::string, Make>> all{{"norm of the clip", input_norm}, {"backbone.r3d", r3d}};
  return all;
}

// `total` clips in batches of `each`, the last one smaller.
Batches batches_of(std::int64_t total, std::int64_t each, std::mt19937& random) {
  Batches out;
  for (std::int64_t i = 0; i < total; ++i) {
    if (i % each == 0) out.emplace_back();
    const bool counts = i % each == 0 || random() % 4 != 0;
    out.back().push_back(make_sample(i, make_clip(frames, size, size, random()), counts ? static_cast<std::int64_t>(random() % 3) : -1));
  }
  return out;
}

Tensors copies(const std::vector<NamedTensor>& tensors) {
  Tensors out;
  for (const auto& item : tensors) out.push_back(item.tensor.detach().clone());
  return out;
}

bool same(const Tensors& a, const Tensors& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!a[i].equal(b[i])) return false;
  return true;
}

struct State {
  Tensors weights, statistics;
  friend bool operator==(const State& a, const State& b) { return same(a.weights, b.weights) && same(a.statistics, b.statistics); }
};

struct Net {
  std::unique_ptr<Model> model;
  TinyLoss loss;
  TinySgd optimizer;
  Assembler assembler{{clip_and_label(frames, size, size), {{0.5, 0.5, 0.5}, {0.25, 0.25, 0.25}, "auto"}, at::kCPU, false}};

  explicit Net(std::unique_ptr<Model> made) : model(std::move(made)) {
    set_compute_threads(1);  // kernels this small gain nothing by a second
    optimizer.keep_gradients = false;
    optimizer.prepare(model->weights());
  }
  State state() { return {copies(model->weights()), copies(model->statistics())}; }
};

// The oracle: one group after the other in a plain pass, one division, no trainer.
State by_hand(const Make& make, const Batches& batches, std::int64_t group) {
  Net net(make());
  net.model->set_training(true);
  for (const auto& batch : batches) {
    const auto extents = net.assembler.extents(batch);
    const std::span<const FinishedSample> all = batch;
    double weight = 0;
    for (std::size_t at = 0; at < batch.size(); at += static_cast<std::size_t>(group)) {
      const auto microbatch = net.assembler.assemble(all.subspan(at, std::min(static_cast<std::size_t>(group), batch.size() - at)), extents);
      MicrobatchPass pass(true, microbatch.keys);
      const LossValue value = net.loss(net.model->forward(microbatch.inputs, pass), microbatch.inputs, microbatch.host);
      if (value.weight > 0) value.sum.backward();
      weight += value.weight;
    }
    for (auto& item : net.model->weights())
      if (item.tensor.grad().defined()) item.tensor.mutable_grad().div_(weight);
    net.optimizer.step(0.1);
    for (auto& item : net.model->weights()) item.tensor.mutable_grad().reset();
  }
  return net.state();
}

State by_step(const Make& make, const Batches& batches, std::int64_t group, const SegmentPlan& checkpointing) {
  Net net(make());
  Step step(*net.model, net.loss, net.optimizer, {group, 0, 3, checkpointing});
  for (const auto& batch : batches) CHECK(step.run(net.assembler, batch, 0.1).updated);
  return net.state();
}

std::vector<std::string> segments_of(const Make& make) {
  struct Names final : SegmentObserver {
    std::vector<std::string> seen;
    void begins(const std::string& path) override { seen.push_back(path); }
    void ends(const std::string&, const Tensors&) override {}
    void saves_output(const std::string&) override {}
    void runs_again(const std::string&, bool) override {}
    void comes_back(const std::string&) override {}
  } names;
  Net net(make());
  const Microbatch zeros = net.assembler.zeros(2, net.assembler.largest());
  MicrobatchPass pass(true, zeros.keys, {nullptr, {}, &names});
  static_cast<void>(net.model->forward(zeros.inputs, pass));
  return names.seen;
}

SegmentPlan some_of(const std::vector<std::string>& segments, std::mt19937& random) {
  SegmentPlan out;
  for (const auto& name : segments)
    if (random() % 2 == 0) out.twice.names.insert(name);
  return out;
}

Recovery::Options recovery(std::int64_t batch, std::int64_t group, const SegmentPlan& checkpointing = {}) {
  Pipeline pipeline;
  pipeline.batch.size.value = batch;
  pipeline.model.batch_norm.mode = BatchNormConfig::Mode::group;
  pipeline.model.batch_norm.group = group;
  Recovery::Options options;
  options.step.classes = 3;
  options.limits = plan_limits(pipeline, 1);
  options.plan.microbatch = options.limits.microbatches.front();
  options.plan.segments = checkpointing;
  options.say = [](const std::string&) {};
  return options;
}

// Hides its statistics from the trainer: then nobody puts them back.
class Hidden final : public Model {
 public:
  explicit Hidden(std::unique_ptr<Model> model) : model_(std::move(model)) {}
  std::vector<NamedTensor> weights() override { return model_->weights(); }
  std::vector<NamedTensor> statistics() override { return {}; }
  void set_training(bool training) override { model_->set_training(training); }
  void move_to(at::Device) override {}
  std::int64_t batch_norms(bool) override { return 0; }
  Outputs forward(const Inputs& inputs, Pass& pass) override { return model_->forward(inputs, pass); }
  Model& inner() { return *model_; }

 private:
  std::unique_ptr<Model> model_;
};

}  // namespace

// Mistakes caught: statistics that move again in the second run, a count of batches that does, groups cut in another place than at their
// number, a last group that is left out or filled up.
TEST_CASE("random batches and groups: weights and statistics are those of the groups one by one, bit for bit, whatever is computed twice") {
  std::mt19937 random(40);
  int cases = 0, partial = 0;
  for (const auto& [name, make] : networks()) {
    CAPTURE(name);
    const auto segments = segments_of(make);
    REQUIRE(segments.size() >= 3);
    for (int trial = 0; trial < 12; ++trial) {
      const auto each = 2 + static_cast<std::int64_t>(random() % 7);
      const auto group = 1 + static_cast<std::int64_t>(random() % static_cast<std::uint32_t>(each));
      const auto total = each + 1 + static_cast<std::int64_t>(random() % static_cast<std::uint32_t>(2 * each));
      CAPTURE(each);
      CAPTURE(group);
      CAPTURE(total);
      partial += total % each % group != 0 || each % group != 0;
      const Batches batches = batches_of(total, each, random);
      const State expected = by_hand(make, batches, group);
      for (const auto& checkpointing : {SegmentPlan{}, SegmentPlan{true, {}}, some_of(segments, random)}) {
        CHECK((by_step(make, batches, group, checkpointing) == expected));
        ++cases;
      }
    }
  }
  CHECK(partial > 8);
  MESSAGE(cases, " runs bit-equal, ", partial, " of the 24 data sets with a group that is not full");
}

// Mistakes caught: statistics over the microbatch where the group is meant, a biased variance, a momentum that is applied twice.
TEST_CASE("the statistics of a layer that sees the clip are those of a loop over its values") {
  std::mt19937 random(41);
  double worst = 0;
  for (int trial = 0; trial < 6; ++trial) {
    const auto each = 3 + static_cast<std::int64_t>(random() % 6);
    const auto group = 1 + static_cast<std::int64_t>(random() % static_cast<std::uint32_t>(each));
    const Batches batches = batches_of(2 * each + 1, each, random);
    std::vector<double> mean(3, 0), variance(3, 1);
    std::int64_t groups = 0;
    for (const auto& batch : batches)
      for (std::size_t at = 0; at < batch.size(); at += static_cast<std::size_t>(group), ++groups)
        for (std::size_t c = 0; c < 3; ++c) {
          double n = 0, sum = 0, squares = 0;
          for (std::size_t i = at; i < std::min(batch.size(), at + static_cast<std::size_t>(group)); ++i) {
            const Array& clip = batch[i].arrays.front().second;
            for (std::uint64_t k = c; k < clip.bytes(); k += 3) {
              const double x = (clip.data()[k] / 255.0 - 0.5) / 0.25;
              ++n, sum += x, squares += x * x;
            }
          }
          mean[c] = 0.9 * mean[c] + 0.1 * sum / n;
          variance[c] = 0.9 * variance[c] + 0.1 * (squares - sum * sum / n) / (n - 1);
        }
    Net net(input_norm());
    Recovery steps(*net.model, net.loss, net.optimizer, recovery(each, group, {trial % 2 == 0, {}}));
    for (const auto& batch : batches) CHECK(steps.run(net.assembler, batch, 0.1).updated);
    for (const auto& item : net.model->statistics()) {
      if (item.name.ends_with("num_batches_tracked")) CHECK(item.tensor.item<std::int64_t>() == groups);
      for (std::int64_t c = 0; c < 3; ++c) {
        if (item.name == "layers.0.running_mean") worst = std::max(worst, std::abs(item.tensor[c].item<double>() - mean[static_cast<std::size_t>(c)]));
        if (item.name == "layers.0.running_var") worst = std::max(worst, std::abs(item.tensor[c].item<double>() - variance[static_cast<std::size_t>(c)]));
      }
    }
  }
  CHECK(worst < 1e-5);
  CHECK(worst > 0);
  MESSAGE("farthest from the loop: ", worst);
}

// Mistakes caught: statistics that a failed try has moved, in the forward pass, in a second run or in an earlier microbatch.
TEST_CASE("whichever allocation fails, once or twice in a row: the statistics are those of the run in which none did") {
  auto& allocator = CappedAllocator::install();
  std::mt19937 random(42);
  std::int64_t tried = 0, retries = 0;
  for (const auto& [name, make] : networks()) {
    CAPTURE(name);
    const auto segments = segments_of(make);
    const Batches batches = batches_of(2 * 5, 5, random);  // groups of 2, 2 and 1
    for (const auto& checkpointing : {SegmentPlan{}, some_of(segments, random), SegmentPlan{true, {}}}) {
      Net clean(make());
      Recovery without(*clean.model, clean.loss, clean.optimizer, recovery(5, 2, checkpointing));
      CHECK(without.run(clean.assembler, batches[0], 0.1).updated);
      const auto before = allocator.counters().allocations;
      CHECK(without.run(clean.assembler, batches[1], 0.1).updated);
      const auto count = allocator.counters().allocations - before;
      const State expected = clean.state();
      REQUIRE(count > 100);
      for (std::uint64_t n = 1; n <= count; n += 1 + random() % 18) {
        CAPTURE(n);
        for (const bool twice : {false, true}) {
          if (twice && checkpointing.twice.all) continue;  // no rung is left
          Net net(make());
          auto options = recovery(5, 2, checkpointing);
          bool again = twice;
          options.say = [&](const std::string&) {
            if (std::exchange(again, false)) allocator.fail_at(1 + (n * 7) % count);
          };
          Recovery steps(*net.model, net.loss, net.optimizer, std::move(options));
          CHECK(steps.run(net.assembler, batches[0], 0.1).updated);
          allocator.fail_at(n);
          CHECK(steps.run(net.assembler, batches[1], 0.1).updated);
          allocator.fail_at(0);
          CHECK(steps.retries() == (twice ? 2 : 1));
          REQUIRE((net.state() == expected));
          ++tried;
          retries += steps.retries();
        }
      }
    }
  }
  CHECK(tried > 100);
  MESSAGE(tried, " runs with ", retries, " failures, all bit-equal");
}

// Mistakes caught: statistics of a batch that was not learnt from; a cut of the group when memory is short.
TEST_CASE("a step that is skipped, abandoned or given up leaves the statistics as they were") {
  auto& allocator = CappedAllocator::install();
  KernelRoutes::instance().trust_all(true);
  std::mt19937 random(43);
  for (const auto& [name, make] : networks()) {
    CAPTURE(name);
    for (const bool twice : {false, true}) {
      CAPTURE(twice);
      const Batches batches = batches_of(3 * 6, 6, random);
      const auto options = [&](Precision precision) {
        auto all = recovery(6, 2, {twice, {}});
        all.step.arithmetic.precision = precision;
        return all;
      };

      // fp16: the scale is halved until the gradients are numbers; then the run is the one that began with that scale.
      TinyLoss steep;
      steep.factor = 1e5;
      Net found(make()), known(make());
      Recovery finding(*found.model, steep, found.optimizer, options(Precision::fp16));
      const State start = found.state();
      int skipped = 0;
      while (!finding.run(found.assembler, batches[0], 1e-6).updated) {
        REQUIRE(++skipped < 30);
        CHECK((found.state() == start));
      }
      CHECK(skipped > 2);
      CHECK_FALSE(same(found.state().statistics, start.statistics));
      Recovery knowing(*known.model, steep, known.optimizer, options(Precision::fp16));
      knowing.scaler().restore(finding.scaler().state());
      CHECK(knowing.run(known.assembler, batches[0], 1e-6).updated);
      CHECK((known.state() == found.state()));

      // fp32: a batch in the middle whose loss is no number, one in which no label counts, one that is abandoned, one that does not fit.
      Net net(make()), straight(make());
      TinyLoss loss;
      Recovery steps(*net.model, loss, net.optimizer, options(Precision::fp32)), others(*straight.model, loss, straight.optimizer, options(Precision::fp32));
      CHECK(steps.run(net.assembler, batches[0], 0.1).updated);
      const State between = net.state();
      loss.factor = std::numeric_limits<double>::infinity();
      CHECK_FALSE(steps.run(net.assembler, batches[1], 0.1).updated);
      CHECK((net.state() == between));
      loss.factor = 1;
      std::vector<FinishedSample> nothing;
      for (std::int64_t i = 0; i < 6; ++i) nothing.push_back(make_sample(i, make_clip(frames, size, size, random()), -1));
      CHECK_FALSE(steps.run(net.assembler, nothing, 0.1).updated);
      CHECK((net.state() == between));
      CHECK(steps.run(net.assembler, batches[1], 0.1, [n = 0]() mutable { return ++n < 2; }).abandoned);
      CHECK((net.state() == between));
      allocator.set_cap(allocator.counters().live + 100 * 1024);
      CHECK_THROWS_AS(steps.run(net.assembler, batches[1], 0.1), c10::OutOfMemoryError);
      allocator.set_cap(0);
      CHECK(steps.plan().microbatch == 2);
      CHECK((net.state() == between));

      CHECK(steps.run(net.assembler, batches[2], 0.1).updated);
      CHECK(others.run(straight.assembler, batches[0], 0.1).updated);
      CHECK(others.run(straight.assembler, batches[2], 0.1).updated);
      CHECK((net.state() == straight.state()));
    }
  }
}

// Mistakes caught: a plan of another microbatch than the group, whatever was saved or is wanted; a measurement that counts as training.
TEST_CASE("{ group = N } leaves no plan but N, and measuring a plan moves nothing") {
  std::mt19937 random(44);
  for (int trial = 0; trial < 200; ++trial) {
    Pipeline pipeline;
    const auto batch = 1 + static_cast<std::int64_t>(random() % 64);
    const auto group = 1 + static_cast<std::int64_t>(random() % static_cast<std::uint32_t>(batch));
    pipeline.batch.size.value = batch;
    pipeline.model.batch_norm.mode = BatchNormConfig::Mode::group;
    pipeline.model.batch_norm.group = group;
    const auto saved = 1 + static_cast<std::int64_t>(random() % 64);
    CHECK(plan_limits(pipeline, 3).microbatches == std::vector{group});
    CHECK(plan_limits(pipeline, 3, saved).microbatches == std::vector{group});
    pipeline.batch.microbatch.value = group;
    CHECK(plan_limits(pipeline, 3).microbatches == std::vector{group});
    for (const auto other : {2 * group, group + 1}) {
      pipeline.batch.microbatch.value = other;
      CHECK_THROWS_AS(static_cast<void>(plan_limits(pipeline, 3)), Error);
    }
    pipeline.model.batch_norm.group = batch + 1;
    pipeline.batch.microbatch.value = 0;
    CHECK_THROWS_AS(static_cast<void>(plan_limits(pipeline, 3)), Error);
  }
  for (const auto& [name, make] : networks()) {
    CAPTURE(name);
    Net net(make());
    const State before = net.state();
    NeedsRequest request;
    request.model = net.model.get(), request.loss = &net.loss, request.optimizer = &net.optimizer;
    request.train = request.eval = &net.assembler;
    request.batch_size = 8, request.classes = 3, request.one_pass = false;
    NeedsMeter meter(std::move(request), {}, "");
    CHECK(meter.model(GiB) != nullptr);
    for (const std::int64_t group : {1, 3}) CHECK(meter.training({group, 1, {true, {}}}, GiB));
    CHECK_FALSE(meter.training({8, 1, {}}, 100 * 1024));  // it runs out of memory
    CHECK(meter.evaluation(2, {1, 2, {}}, GiB));
    CHECK((net.state() == before));
  }
}

// Planted defects: statistics that nobody puts back move twice, and another microbatch is another result.
TEST_CASE("statistics that the trainer does not know of move twice, and a multiple of the group is another network") {
  std::mt19937 random(45);
  for (const auto& [name, make] : networks()) {
    CAPTURE(name);
    const Batches batches = batches_of(8, 8, random);
    std::vector<Tensors> statistics;
    for (const bool twice : {false, true}) {
      auto hidden = std::make_unique<Hidden>(make());
      Model& inner = hidden->inner();
      Net net(std::move(hidden));
      Step step(*net.model, net.loss, net.optimizer, {2, 0, 3, {twice, {}}});
      CHECK(step.run(net.assembler, batches[0], 0.1).updated);
      statistics.push_back(copies(inner.statistics()));
    }
    CHECK_FALSE(same(statistics[0], statistics[1]));
    CHECK_FALSE(same(by_step(make, batches, 2, {}).statistics, by_step(make, batches, 4, {}).statistics));
  }
}
