// M1 of the promises: however a batch is cut, and whatever of it is computed twice, its gradient is that of one backward pass over the
// whole batch.
#include <ATen/core/Tensor.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <random>
#include <vector>

#include "fakes.hpp"
#include "framework/train/step.hpp"

using namespace sluice;
using namespace sluice::fakes;

namespace {

constexpr std::int64_t frames = 4, size = 8;

std::vector<FinishedSample> batch_of(std::int64_t n, std::mt19937& random) {
  std::vector<FinishedSample> out;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t label = random() % 3 == 0 ? -1 : static_cast<std::int64_t>(random() % 3);  // -1 does not count
    out.push_back(make_sample(i, make_clip(frames, size, size, random()), i == 0 ? 1 : label));
  }
  return out;
}

// Lengths that add up to n, none of them equal on purpose.
std::vector<std::int64_t> partition_of(std::int64_t n, std::mt19937& random) {
  std::vector<std::int64_t> out;
  while (n > 0) {
    out.push_back(1 + static_cast<std::int64_t>(random() % static_cast<std::uint32_t>(n)));
    n -= out.back();
  }
  std::shuffle(out.begin(), out.end(), random);
  return out;
}

std::vector<at::Tensor> gradient(at::ScalarType type, const std::vector<FinishedSample>& batch, const std::vector<std::int64_t>& partition, bool twice) {
  TinyModel model(3, type, 0.3), in_floats(3, at::kFloat, 0.3);
  {
    const at::NoGradGuard no_grad;  // the same weights in either type
    for (std::size_t i = 0; i < model.weights().size(); ++i) model.weights()[i].tensor.copy_(in_floats.weights()[i].tensor);
  }
  TinyLoss loss;
  TinySgd optimizer;
  optimizer.prepare(model.weights());
  const Assembler assembler({clip_and_label(frames, size, size), {{0.5, 0.5, 0.5}, {0.25, 0.25, 0.25}, "auto"}, at::kCPU, false});
  const auto extents = assembler.extents(batch);
  const std::span<const FinishedSample> all = batch;
  std::vector<std::function<Microbatch()>> microbatches;
  std::size_t at = 0;
  for (const auto clips : partition) {
    const auto part = all.subspan(at, static_cast<std::size_t>(clips));
    microbatches.emplace_back([&assembler, &extents, part] { return assembler.assemble(part, extents); });
    at += static_cast<std::size_t>(clips);
  }
  Step step(model, loss, optimizer, {1, 0, 3, {twice, {}}});
  StepResult result = step.accumulate(microbatches);
  step.commit(result, 0.0);
  return optimizer.gradients;
}

double difference(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const at::Tensor exact = b[i].to(at::kDouble);
    worst = std::max(worst, (at::linalg_vector_norm(a[i].to(at::kDouble) - exact, 2) / at::linalg_vector_norm(exact, 2)).item<double>());
  }
  return worst;
}

}  // namespace

// Mistakes caught: a mean of means, a mask that follows the place in the microbatch, a second run that adds its gradient again.
TEST_CASE("200 random partitions: 1e-12 in fp64, and in fp32 at most twice the rounding of the whole batch") {
  std::mt19937 random(20);
  double worst = 0;
  std::vector<double> whole, cut;  // errors in fp32; one pair alone is noise, 200 are not
  for (int trial = 0; trial < 200; ++trial) {
    CAPTURE(trial);
    const auto n = 2 + static_cast<std::int64_t>(random() % 9);
    const auto batch = batch_of(n, random);
    const auto partition = partition_of(n, random);
    const bool twice = random() % 2 == 0;
    const auto exact = gradient(at::kDouble, batch, {n}, false);
    const double off = difference(gradient(at::kDouble, batch, partition, twice), exact);
    CHECK(off <= 1e-12);
    worst = std::max(worst, off);
    whole.push_back(difference(gradient(at::kFloat, batch, {n}, false), exact));
    cut.push_back(difference(gradient(at::kFloat, batch, partition, twice), exact));
    CHECK(whole.back() < 1e-4);
  }
  const auto mean = [](const std::vector<double>& errors) { return std::accumulate(errors.begin(), errors.end(), 0.0) / static_cast<double>(errors.size()); };
  const auto most = [](const std::vector<double>& errors) { return *std::max_element(errors.begin(), errors.end()); };
  CHECK(mean(cut) <= 2 * mean(whole));
  CHECK(most(cut) <= 2 * most(whole));
  MESSAGE("worst in fp64: " << worst << "; error in fp32, whole: mean " << mean(whole) << ", most " << most(whole) << "; cut: mean " << mean(cut) << ", most " << most(cut));
}

// Planted defect: one clip counted twice has to be seen.
TEST_CASE("a clip that is counted twice is far off") {
  std::mt19937 random(4);
  auto batch = batch_of(4, random);
  const auto exact = gradient(at::kDouble, batch, {4}, false);
  batch.push_back(make_sample(0, make_clip(frames, size, size, 1), 1));
  CHECK(difference(gradient(at::kDouble, batch, {2, 3}, false), exact) > 1e-3);
}
