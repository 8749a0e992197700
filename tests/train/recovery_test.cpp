// Steps that run out of memory, against the same steps with enough of it.
#include "framework/train/recovery.hpp"

#include <ATen/core/Tensor.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <c10/util/Exception.h>
#include <doctest/doctest.h>

#include <limits>
#include <vector>

#include "fakes.hpp"
#include "framework/train/capped_allocator.hpp"
#include "framework/train/checkpointing.hpp"
#include "framework/train/needs.hpp"
#include "tests/support/scratch_folder.hpp"

using namespace sluice;
using namespace sluice::fakes;

namespace {

constexpr std::int64_t frames = 4, size = 20;

std::vector<FinishedSample> batch_of(std::int64_t n, std::uint32_t seed) {
  std::vector<FinishedSample> out;
  for (std::int64_t i = 0; i < n; ++i) out.push_back(make_sample(i, make_clip(frames, size, size, seed * 100 + static_cast<std::uint32_t>(i)), i % 3));
  return out;
}

// Several segments, so that computing them twice frees something.
class DeepModel final : public Model {
 public:
  DeepModel() {
    at::manual_seed(3);
    for (int i = 0; i < 5; ++i) kernels_.push_back(at::randn({6, i == 0 ? 3 : 6, 3, 3, 3}).mul_(0.2).set_requires_grad(true));
    fc_ = at::randn({3, 6}).mul_(0.2).set_requires_grad(true);
  }
  std::vector<NamedTensor> weights() override {
    std::vector<NamedTensor> out{{"fc", fc_}};
    for (std::size_t i = 0; i < kernels_.size(); ++i) out.push_back({"conv" + std::to_string(i), kernels_[i]});
    return out;
  }
  std::vector<NamedTensor> statistics() override { return {}; }
  void set_training(bool) override {}
  void move_to(at::Device) override {}
  std::int64_t batch_norms(bool) override { return 0; }
  Outputs forward(const Inputs& inputs, Pass& pass) override {
    at::Tensor x = inputs.get("clip");
    for (const auto& kernel : kernels_)
      x = pass.segment("conv", [kernel, &pass](const at::Tensor& in) { return pass.dropout(at::conv3d(in, kernel, {}, 1, 1).relu(), 0.3); }, x);
    Outputs out;
    out.set("logits", at::linear(x.mean({2, 3, 4}), fc_));
    return out;
  }

 private:
  std::vector<at::Tensor> kernels_;
  at::Tensor fc_;
};

struct Setup {
  DeepModel model;
  TinyLoss loss;
  TinySgd optimizer;
  Assembler assembler{{clip_and_label(frames, size, size), {{0.5, 0.5, 0.5}, {0.25, 0.25, 0.25}, "auto"}, at::kCPU, false}};
  std::vector<std::string> said;
  Recovery steps;

  explicit Setup(SegmentChoice::Mode checkpoint = SegmentChoice::Mode::automatic, std::vector<std::int64_t> microbatches = {8, 4, 2, 1}, const MemoryModel* memory = nullptr)
      : steps(model, loss, optimizer, options(checkpoint, std::move(microbatches), memory)) {
    optimizer.keep_gradients = false;
    optimizer.prepare(model.weights());
  }
  Recovery::Options options(SegmentChoice::Mode checkpoint, std::vector<std::int64_t> microbatches, const MemoryModel* memory) {
    Recovery::Options options;
    options.model = memory;
    options.step.classes = 3;
    options.plan.microbatch = 8;
    options.limits.batch = 8;
    options.limits.microbatches = std::move(microbatches);
    options.limits.checkpoint.mode = checkpoint;
    options.say = [this](const std::string& line) { said.push_back(line); };
    options.clean_steps = 3;
    return options;
  }
  StepResult run(std::uint32_t seed) { return steps.run(assembler, batch_of(8, seed), 0.1); }
  std::vector<at::Tensor> weights() {
    std::vector<at::Tensor> out;
    for (const auto& weight : model.weights()) out.push_back(weight.tensor.detach());
    return out;
  }
};

bool same(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!a[i].equal(b[i])) return false;
  return a.size() == b.size();
}

double difference(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, (at::linalg_vector_norm(a[i] - b[i], 2) / at::linalg_vector_norm(b[i], 2)).item<double>());
  return worst;
}

// Bytes above what lives at the peak of a step with this plan.
std::uint64_t peak_of(std::int64_t microbatch, bool checkpoint) {
  Setup setup;
  Step step(setup.model, setup.loss, setup.optimizer, {microbatch, 0, 3, {checkpoint, {}}});
  const auto batch = batch_of(8, 1);
  auto& allocator = CappedAllocator::install();
  const auto live = allocator.counters().live;
  allocator.reset_peak();
  step.run(setup.assembler, batch, 0.1);
  return allocator.counters().peak - live;
}

// As a start measures it.
MemoryModel memory_of_the_model() {
  Setup setup;
  NeedsRequest request;
  request.model = &setup.model;
  request.loss = &setup.loss;
  request.optimizer = &setup.optimizer;
  request.train = &setup.assembler;
  request.batch_size = 8;
  request.classes = 3;
  request.one_pass = false;
  NeedsMeter meter(std::move(request), {}, "");
  const MemoryModel* found = meter.model(std::uint64_t{1} << 30);
  REQUIRE(found != nullptr);
  return *found;
}

class Cap {
 public:
  explicit Cap(std::uint64_t above) {
    auto& allocator = CappedAllocator::install();
    allocator.set_cap(allocator.counters().live + above);
  }
  ~Cap() { CappedAllocator::install().set_cap(0); }
  Cap(const Cap&) = delete;
  Cap& operator=(const Cap&) = delete;
};

}  // namespace

// Mistakes caught: a weight, a draw or a byte that an undone step leaves behind.
TEST_CASE("whichever allocation of a step fails once, the run is bit for bit the one in which none did") {
  auto& allocator = CappedAllocator::install();
  std::uint64_t count = 0;
  Setup clean;
  for (std::uint32_t i = 1; i <= 2; ++i) {
    const auto before = allocator.counters().allocations;
    clean.run(i);
    count = allocator.counters().allocations - before;
  }
  REQUIRE(count > 30);
  for (std::uint64_t n = 1; n <= count; ++n) {
    CAPTURE(n);
    Setup setup;
    setup.run(1);
    const auto live = allocator.counters().live;
    allocator.fail_at(n);
    CHECK(setup.run(2).updated);
    allocator.fail_at(0);
    CHECK(setup.said.size() == 1);
    CHECK(setup.steps.retries() == 1);
    CHECK(setup.steps.plan().microbatch == 8);
    CHECK(allocator.counters().live == live);
    REQUIRE(same(setup.weights(), clean.weights()));
  }
}

// Mistakes caught: a rung that is skipped, one that is taken although it is pinned, one that never comes back.
TEST_CASE("with less memory a step computes twice first, then cuts the batch, and returns to its plan when there is room") {
  Setup clean;
  for (std::uint32_t i = 1; i <= 20; ++i) clean.run(i);
  const auto plain = peak_of(8, false), twice = peak_of(8, true), half = peak_of(4, true);
  REQUIRE(twice + 20000 < plain);
  REQUIRE(half + 20000 < twice);
  SUBCASE("every segment twice") {
    Setup setup;
    {
      const Cap cap((plain + twice) / 2);
      for (std::uint32_t i = 1; i <= 3; ++i) CHECK(setup.run(i).updated);
      CHECK(setup.steps.plan() == TrainingPlan{8, 1, {true, {}}});
      CHECK(setup.steps.retries() == 2);
    }
    for (std::uint32_t i = 4; i <= 20; ++i) setup.run(i);
    CHECK(setup.steps.plan() == TrainingPlan{8, 1, {}});
    CHECK(setup.said.size() == 3);
    CHECK(same(setup.weights(), clean.weights()));
  }
  SUBCASE("a cut batch") {
    Setup setup;
    {
      const Cap cap((twice + half) / 2);
      Setup once;
      once.run(1);
      CHECK(setup.run(1).updated);
      CHECK(difference(setup.weights(), once.weights()) < 1e-6);
      for (std::uint32_t i = 2; i <= 3; ++i) CHECK(setup.run(i).updated);
      CHECK(setup.steps.plan() == TrainingPlan{4, 1, {true, {}}});
    }
    for (std::uint32_t i = 4; i <= 20; ++i) setup.run(i);
    CHECK(setup.steps.plan() == TrainingPlan{8, 1, {}});
    CHECK(difference(setup.weights(), clean.weights()) < 1e-2);  // last bits, after twenty steps
  }
  SUBCASE("room for a while only") {
    Setup setup;
    for (std::uint32_t i = 1; i <= 20; ++i) {
      const Cap cap((plain + twice) / 2);
      CHECK(setup.run(i).updated);
    }
    // After 3 steps, then 6, then 12: two failed tries each.
    CHECK(setup.steps.retries() <= 6);
    CHECK(same(setup.weights(), clean.weights()));
  }
  SUBCASE("what is pinned stays") {
    Setup setup(SegmentChoice::Mode::none, {8});
    const auto before = setup.weights()[0].clone();
    const Cap cap((plain + twice) / 2);
    CHECK_THROWS_AS(setup.run(1), c10::OutOfMemoryError);
    CHECK(setup.steps.plan() == TrainingPlan{8, 1, {}});
    CHECK(setup.weights()[0].equal(before));
  }
}

// Mistakes caught: a checkpoint that is half written, one that is left out without a word.
TEST_CASE("a checkpoint that finds no memory is written with freed memory given back, and what there was stays where that is not enough") {
  auto& allocator = CappedAllocator::install();
  const testing::ScratchFolder folder;
  Setup setup;
  setup.run(1);
  CheckpointStore store(folder.path(), {});
  RunState state;
  const auto save = [&](std::int64_t step) {
    state.step = step;
    const auto before = allocator.counters().allocations;
    save_checkpoint(store, state, setup.model, setup.optimizer, {}, false);
    return allocator.counters().allocations - before;
  };
  const auto count = save(1);
  REQUIRE(count > 0);
  for (std::uint64_t n = 1; n <= count; ++n) {
    allocator.fail_at(n);
    save(static_cast<std::int64_t>(n) + 1);
    allocator.fail_at(0);
    CHECK(store.newest().checkpoint->step() == static_cast<std::int64_t>(n) + 1);
  }
  const auto last = static_cast<std::int64_t>(count) + 1;
  {
    const Cap cap(1);
    CHECK_THROWS_AS(save(1000), c10::OutOfMemoryError);
  }
  CHECK(store.newest().checkpoint->step() == last);
  CHECK(store.newest().refused.empty());
}

// M7 of the promises. Mistakes caught: a ladder that is climbed rung by rung with a failed step on each, a smaller plan that stays when
// there is room again, a climb that is tried while there is none.
TEST_CASE("a budget that is cut by 40 % in mid-run and restored: two failed steps at most, then the plan and the losses of a run that was left alone") {
  const MemoryModel memory = memory_of_the_model();
  const auto room = memory.peak(8, {}) * 21 / 20;
  std::vector<double> losses, undisturbed;
  {
    Setup clean;
    for (std::uint32_t i = 1; i <= 60; ++i) undisturbed.push_back(clean.run(i).loss);
  }
  Setup setup(SegmentChoice::Mode::automatic, {8, 4, 2, 1}, &memory);
  std::int64_t at_full_plan = 0;
  for (std::uint32_t i = 1; i <= 60; ++i) {
    const Cap cap(i > 20 && i <= 40 ? room * 6 / 10 : room);
    const StepResult result = setup.run(i);
    CHECK(result.updated);
    losses.push_back(result.loss);
    if (i > 20 && i <= 40) CHECK_FALSE(setup.steps.plan() == TrainingPlan{8, 1, {}});
    at_full_plan += i > 40 && setup.steps.plan() == TrainingPlan{8, 1, {}};
  }
  CHECK(setup.steps.retries() <= 2);
  CHECK(setup.steps.plan() == TrainingPlan{8, 1, {}});
  CHECK(at_full_plan >= 12);
  double worst = 0;
  for (std::size_t i = 0; i < losses.size(); ++i) worst = std::max(worst, std::abs(losses[i] - undisturbed[i]) / undisturbed[i]);
  CHECK(worst < 1e-4);
  MESSAGE(setup.steps.retries(), " failed steps, ", at_full_plan, " of the last 20 with the first plan again, losses off by at most ", worst);

  // Planted: without the memory model every rung costs a failed step.
  Setup blind;
  for (std::uint32_t i = 1; i <= 40; ++i) {
    const Cap cap(i > 20 ? room * 6 / 10 : room);
    blind.run(i);
  }
  CHECK(blind.steps.retries() > 2);
}
