// A step over clips in chunks is a transaction as one over whole clips is: whatever allocation fails, it is as if it had never begun.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "framework/train/capped_allocator.hpp"
#include "framework/train/kernel_routes.hpp"
#include "framework/train/long_step.hpp"
#include "long_fakes.hpp"
#include "tests/models/training_half.hpp"

using namespace sluice;
using namespace sluice::fakes;

namespace {

constexpr std::int64_t classes = 3;
constexpr double lr = 0.01;

// Tensors of some hundred numbers: a second thread would wait for the first.
[[maybe_unused]] const bool one_thread = (at::set_num_threads(1), true);

struct Kind {
  std::string optimizer;
  std::string file;  // that holds it
  Precision precision = Precision::fp32;
  double clip_norm = 0;
};

StepOptions options_of(const Kind& kind) {
  KernelRoutes::instance().trust_all(true);
  StepOptions options;
  options.classes = classes;
  options.clip_norm = kind.clip_norm;
  options.arithmetic.precision = kind.precision;
  return options;
}

// A chunked training with a real optimizer. Its clips are of two chunks and of one, so that the second is summed beside the first.
struct Training {
  LongModel model;
  TinyLoss loss;
  std::unique_ptr<Optimizer> optimizer;
  Assembler assembler = make_assembler(64, 6);
  LongStep steps;
  std::vector<FakeClip> clips{{0, 12, 1}, {1, 8, 2}};
  int undone = 0;                      // steps that ran out of memory
  std::vector<std::uint64_t> left{};   // live bytes after each of them

  explicit Training(const Kind& kind)
      : model(classes, floats()), optimizer(testing::build<OptimizerFactory>(testing::part(kind.optimizer, {}, kind.file), OptimizerContext{})), steps(model, loss, *optimizer, options_of(kind)) {
    optimizer->prepare(model.weights());
  }
  static LongKind floats() {
    LongKind kind;
    kind.type = at::kFloat;
    kind.dropout = 0.3;
    return kind;
  }
  // As a run does it: the feed begins again where the last whole step ended.
  StepResult step() {
    for (;;) {
      try {
        StepResult result;
        in_chunks(clips, {8, 2}, 2, [&](const Batch& piece) {
          steps.add(assembler, piece);
          if (piece.complete()) result = steps.commit(lr);
        });
        return result;
      } catch (const c10::OutOfMemoryError&) {
        ++undone;
      }
      left.push_back(CappedAllocator::install().counters().live);
    }
  }
  std::vector<NamedTensor> everything() {
    std::vector<NamedTensor> all = model.weights();
    for (auto& list : {model.statistics(), optimizer->state()}) all.insert(all.end(), list.begin(), list.end());
    return all;
  }
};

// The first tensor that differs; empty where none does.
std::string differing(Training& one, Training& other) {
  const auto all = one.everything(), others = other.everything();
  REQUIRE(all.size() == others.size());
  for (std::size_t i = 0; i < all.size(); ++i)
    if (!all[i].tensor.equal(others[i].tensor)) return all[i].name;
  return {};
}

}  // namespace

// G22 of the promises. Mistakes caught: gradients of a batch that was undone in the next one's sum, a clip's that is counted twice, half of an
// update, a loss scale that moves for want of memory, a byte that stays. Planted: with commit() that keeps what it was dividing when it
// throws, the next step's gradient is twice as large.
TEST_CASE("whichever allocation of a step in chunks fails once, the run is bit for bit the one in which none did") {
  auto& allocator = CappedAllocator::install();
  const std::vector<Kind> kinds{{"optimizer.sgd", "", Precision::fp32, 0.5}, {"optimizer.adamw", "optimizer.adam", Precision::fp16}};
  for (const auto& kind : kinds) {
    CAPTURE(kind.optimizer);
    Training clean(kind), tried(kind);
    for (auto* one : {&clean, &tried}) REQUIRE(one->step().updated);
    std::uint64_t n = 1;
    for (;; ++n) {
      CAPTURE(n);
      const StepResult expected = clean.step();
      const auto live = allocator.counters().live;
      allocator.fail_at(n);
      const StepResult result = tried.step();
      allocator.fail_at(0);
      CHECK(result.updated == expected.updated);
      CHECK(result.loss == expected.loss);
      CHECK(result.gradient_norm == expected.gradient_norm);
      CHECK(tried.steps.scaler().state() == clean.steps.scaler().state());
      REQUIRE(differing(tried, clean) == "");
      CHECK(allocator.counters().live == live);
      if (tried.undone < static_cast<int>(n)) break;  // none was left to fail
      CHECK(tried.left.back() == live);
    }
    CHECK(tried.undone == static_cast<int>(n) - 1);
    CHECK(n > 100);
    MESSAGE(kind.optimizer, " in ", std::string(name_of(kind.precision)), ": each of ", n - 1, " allocations failed once");
  }
}
