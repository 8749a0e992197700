// Clips in chunks: the gradient is that of a graph over the whole clip, and memory does not follow its length.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "framework/train/capped_allocator.hpp"
#include "framework/train/evaluation.hpp"
#include "framework/train/long_step.hpp"
#include "long_fakes.hpp"

using namespace sluice;
using namespace sluice::fakes;

namespace {

constexpr std::int64_t classes = 3;

// Tensors of some hundred numbers: a second thread would wait for the first.
[[maybe_unused]] const bool one_thread = (at::set_num_threads(1), true);

struct Learnt {
  std::vector<at::Tensor> gradients;
  StepResult result;
};

Learnt in_one_graph(const LongKind& kind, const std::vector<FakeClip>& clips) {
  LongModel model(classes, kind);
  TinyLoss loss;
  TinySgd optimizer;
  optimizer.prepare(model.weights());
  const Assembler assembler = make_assembler(64, clips.front().size);
  std::vector<FinishedSample> samples;
  for (const auto& clip : clips) samples.push_back(clip.whole());
  std::vector<std::function<Microbatch()>> each;  // clips of other lengths are not padded: one at a time
  for (const auto& sample : samples) each.emplace_back([&assembler, &sample] { return assembler.assemble({&sample, 1}, assembler.extents({&sample, 1})); });
  Step step(model, loss, optimizer, {1, 0, classes});
  Learnt learnt;
  learnt.result = step.accumulate(each);
  step.commit(learnt.result, 0.0);
  learnt.gradients = optimizer.gradients;
  return learnt;
}

Learnt by_chunks(const LongKind& kind, const std::vector<FakeClip>& clips, const Chunking& chunking, const SegmentPlan& checkpointing = {}) {
  LongModel model(classes, kind);
  TinyLoss loss;
  TinySgd optimizer;
  optimizer.prepare(model.weights());
  const Assembler assembler = make_assembler(64, clips.front().size);
  StepOptions options;
  options.classes = classes;
  options.segments = checkpointing;
  LongStep steps(model, loss, optimizer, options);
  Learnt learnt;
  in_chunks(clips, chunking, 2, [&](const Batch& piece) {
    steps.add(assembler, piece);
    if (piece.complete()) learnt.result = steps.commit(0.0);
  });
  learnt.gradients = optimizer.gradients;
  return learnt;
}

double difference(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const at::Tensor exact = b[i].to(at::kDouble);
    worst = std::max(worst, (at::linalg_vector_norm(a[i].to(at::kDouble) - exact, 2) / at::linalg_vector_norm(exact, 2)).item<double>());
  }
  return worst;
}

bool same_bits(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](const at::Tensor& x, const at::Tensor& y) { return x.equal(y); });
}

const std::vector<FakeClip> two_clips{{0, 64, 1}, {1, 41, 2}};

}  // namespace

// Catches: a halo that is cropped off by one, an interior chunk that sees padding, an end of the clip that does not, a gradient that
// goes to the wrong features, a head's gradient taken twice, a mean of means.
TEST_CASE("the gradient of clips in chunks is that of one graph: 1e-12 in fp64, rounding in fp32") {
  for (const std::int64_t stride : {1, 2}) {
    LongKind kind;
    kind.stride = stride;
    const Learnt exact = in_one_graph(kind, two_clips);
    double worst = 0, worst32 = 0;
    for (const std::int64_t frames : {2, 8, 14, 16, 24, 34, 40, 62, 64, 100}) {
      CAPTURE(stride);
      CAPTURE(frames);
      LongModel model(classes, kind);
      const Chunking chunking = chunking_of(model, frames);
      CHECK(chunking.halo == 2);
      const Learnt cut = by_chunks(kind, two_clips, chunking);
      CHECK(cut.result.loss == doctest::Approx(exact.result.loss).epsilon(1e-12));
      CHECK(cut.result.weight == 2);
      CHECK(cut.result.clips == 2);
      CHECK(cut.result.scalars == exact.result.scalars);
      const double off = difference(cut.gradients, exact.gradients);
      CHECK(off <= 1e-12);
      CHECK(difference(by_chunks(kind, two_clips, chunking, {true, {}}).gradients, exact.gradients) <= 1e-12);
      worst = std::max(worst, off);
      LongKind in_floats = kind;
      in_floats.type = at::kFloat;
      const double off32 = difference(by_chunks(in_floats, two_clips, chunking).gradients, exact.gradients);
      CHECK(off32 <= 5e-6);
      worst32 = std::max(worst32, off32);
    }
    MESSAGE("stride " << stride << ": worst in fp64 " << worst << ", in fp32 " << worst32);
  }
  LongKind odd;
  for (const std::int64_t frames : {1, 3, 13, 63}) CHECK(difference(by_chunks(odd, two_clips, {frames, 2}).gradients, in_one_graph(odd, two_clips).gradients) <= 1e-12);
}

// Planted defect: a halo that is one frame too small has to be seen.
TEST_CASE("a halo of one frame less is far off") {
  const Learnt exact = in_one_graph({}, two_clips);
  for (const std::int64_t frames : {8, 16, 33}) CHECK(difference(by_chunks({}, two_clips, {frames, 1}).gradients, exact.gradients) > 1e-6);
  CHECK(difference(by_chunks({}, two_clips, {16, 0}).gradients, exact.gradients) > 1e-3);
}

// Catches: a clip that fails in its second pass and leaves half of its gradient, or takes that of the clips before it with it.
TEST_CASE("a clip of which a chunk fails, in either pass, leaves the gradient of the others, bit for bit") {
  const std::vector<FakeClip> others{{0, 64, 1}, {2, 30, 0}};
  const Learnt without = by_chunks({}, others, {16, 2});
  for (const int at : {0, 1, 3, 4, 5, 7}) {
    CAPTURE(at);
    const Learnt with = by_chunks({}, {{0, 64, 1}, {1, 64, 2, 6, at}, {2, 30, 0}}, {16, 2});
    CHECK(same_bits(with.gradients, without.gradients));
    CHECK(with.result.loss == without.result.loss);
    CHECK(with.result.clips == 2);
    CHECK(same_bits(by_chunks({}, {{1, 64, 2, 6, at}, {0, 64, 1}, {2, 30, 0}}, {16, 2}).gradients, without.gradients));
    CHECK(same_bits(by_chunks({}, {{0, 64, 1}, {2, 30, 0}, {1, 64, 2, 6, at}}, {16, 2}).gradients, without.gradients));
  }
  CHECK_FALSE(by_chunks({}, {{1, 64, 2, 6, 2}}, {16, 2}).result.updated);
  CHECK_FALSE(same_bits(by_chunks({}, two_clips, {16, 2}).gradients, without.gradients));
}

// Catches: a second pass that drops other elements than the first one: then the gradient is of another function. Finite differences
// along the gradient are the oracle.
TEST_CASE("with dropout in the encoder and in the head the gradient is that of what the first pass drew") {
  LongKind kind;
  kind.dropout = 0.4;
  const std::vector<FakeClip> clip{{3, 40, 1}};
  const Chunking chunking{16, 2};
  const Learnt learnt = by_chunks(kind, clip, chunking);
  const auto loss_at = [&](double along) {
    LongModel model(classes, kind);
    {
      const at::NoGradGuard no_grad;
      for (std::size_t i = 0; i < learnt.gradients.size(); ++i) model.weights()[i].tensor.add_(learnt.gradients[i], along);
    }
    TinyLoss loss;
    TinySgd optimizer;
    optimizer.prepare(model.weights());
    LongStep steps(model, loss, optimizer, {1, 0, classes});
    const Assembler assembler = make_assembler(64, 6);
    double value = 0;
    in_chunks(clip, chunking, 2, [&](const Batch& piece) {
      steps.add(assembler, piece);
      if (piece.complete()) value = steps.commit(0.0).loss;
    });
    return value;
  };
  double square = 0;
  for (const auto& gradient : learnt.gradients) square += gradient.square().sum().item<double>();
  const double step = 1e-5;
  CHECK((loss_at(step) - loss_at(-step)) / (2 * step) == doctest::Approx(square).epsilon(1e-6));
  kind.dropout = 0.3;
  CHECK_FALSE(same_bits(by_chunks(kind, clip, chunking).gradients, learnt.gradients));
}

TEST_CASE("an evaluation in chunks says what one of whole clips says, and forgets a clip that fails") {
  LongModel model(classes, {});
  TinyLoss loss;
  std::vector<NamedMetric> none;
  const Assembler assembler = make_assembler(64, 6);
  const std::vector<FakeClip> clips{{0, 64, 1}, {1, 50, 2}, {2, 33, 0}};
  const auto whole = [&](const std::vector<FakeClip>& which) {
    Evaluation evaluation(model, &loss, none, {});
    for (const auto& clip : which) {
      const FinishedSample sample = clip.whole();
      evaluation.add(assembler, std::span(&sample, 1));
    }
    return evaluation.finish();
  };
  const auto cut = [&](const std::vector<FakeClip>& which) {
    Evaluation evaluation(model, &loss, none, {});
    in_chunks(which, {16, 2}, 1, [&](const Batch& piece) { evaluation.add(assembler, piece); });
    return evaluation.finish();
  };
  CHECK(cut(clips).numbers[0].second == doctest::Approx(whole(clips).numbers[0].second).epsilon(1e-12));
  CHECK(cut(clips).videos == 3);
  auto holes = clips;
  holes[1].fails_at = 2;
  CHECK(cut(holes).clips == 2);
  CHECK(cut(holes).numbers[0].second == doctest::Approx(whole({clips[0], clips[2]}).numbers[0].second).epsilon(1e-12));
}

// Catches: a graph or a chunk that lives on with the clip. Features are [1, 5, T] doubles; the head keeps a few tensors like them.
TEST_CASE("tensors at the peak do not follow the length of a clip, but for its features") {
  auto& allocator = CappedAllocator::install();
  const auto peak_of = [&](std::int64_t frames, const Chunking& chunking) {
    allocator.trim();
    const auto live = allocator.counters().live;
    allocator.reset_peak();
    LongKind kind;
    kind.type = at::kFloat;
    by_chunks(kind, {{0, frames, 1, 16}}, chunking);
    return static_cast<double>(allocator.counters().peak - live);
  };
  static_cast<void>(peak_of(64, {16, 2}));
  const double shortest = peak_of(64, {16, 2});
  for (const std::int64_t frames : {256, 1024, 4096}) {
    const double features = static_cast<double>(frames) * (5 + 5) * sizeof(float);  // and their gradient
    const double peak = peak_of(frames, {16, 2});
    MESSAGE(frames << " frames: " << peak << " bytes, 64 frames: " << shortest);
    CHECK(peak - features <= 1.05 * shortest);
  }
  CHECK(peak_of(256, {256, 2}) > 3 * shortest);  // the planted defect: one chunk of all frames
}
