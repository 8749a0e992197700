// What --debug says of a step that went wrong.
#include "framework/train/debug_watch.hpp"

#include <algorithm>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scalar_tensor.h>
#include <c10/util/Exception.h>
#include <doctest/doctest.h>

#include "framework/train/pass.hpp"

using namespace sluice;

namespace {

using Layer = std::function<at::Tensor(const at::Tensor&)>;

// Runs two segments and the backward pass under the watch.
void run(DebugWatch& watch, const Layer& first, const Layer& second, bool checkpointed = false) {
  watch.begin();
  const SegmentPlan plan{checkpointed, {}};
  MicrobatchPass pass(true, {1, 2}, {&plan, {}, &watch});
  const at::Tensor x = at::ones({2, 3}).set_requires_grad(true);
  const at::Tensor a = pass.segment("first", first, x);
  const at::Tensor b = pass.segment("second", second, a);
  b.sum().backward();
}

at::Tensor same(const at::Tensor& x) { return x * 1.5; }

}  // namespace

// Mistake caught: the last operation that was not finite in the place of the first, another segment, a watch that cries without need.
TEST_CASE("the first output that is not finite is named with its segment") {
  DebugWatch watch;
  run(watch, same, same);
  CHECK(watch.first_not_finite().empty());
  for (const bool checkpointed : {false, true}) {
    run(watch, same, [](const at::Tensor& x) { return (x * 2).log() - (x - x).log(); }, checkpointed);
    INFO(watch.first_not_finite());
    CHECK(watch.first_not_finite().starts_with("log (segment second, forward) gave Float [2x3] with all values not finite"));
  }
  // A mask of infinities is meant.
  run(watch, same, [](const at::Tensor& x) { return x.masked_fill(x.gt(100), -std::numeric_limits<double>::infinity()); });
  CHECK(watch.first_not_finite().empty());
}

// Mistake caught: memory that nobody has written yet, which LibTorch views before it writes a result to it, taken for a result. Whether
// it holds NaN is chance; here it does for certain.
TEST_CASE("a view of memory that was not written yet is no result") {
  DebugWatch watch;
  watch.begin();
  const at::Tensor unwritten = at::empty({2, 3});
  std::fill_n(unwritten.data_ptr<float>(), 6, std::numeric_limits<float>::quiet_NaN());
  at::Tensor result = unwritten.as_strided({1, 3}, {3, 1}).view({3, 1}).expand({3, 4});
  CHECK(watch.first_not_finite().empty());
  result = result + 1;
  CHECK(watch.first_not_finite().starts_with("add (outside of any segment, forward) gave Float [3x4] with all values not finite"));
  // What writes to the memory that it returns is a result.
  watch.begin();
  unwritten.mul_(2);
  CHECK(watch.first_not_finite().starts_with("mul_ "));
}

// Mistake caught: a backward pass that nobody watches, or whose operations count to the segment that ran last.
TEST_CASE("what only the backward pass makes is found there, in its own segment") {
  DebugWatch watch;
  for (const bool checkpointed : {false, true}) {
    // The root of zero: finite, its derivative is not.
    run(watch, [](const at::Tensor& x) { return (x - x.detach()).sqrt(); }, same, checkpointed);
    INFO(watch.first_not_finite());
    CHECK(watch.first_not_finite().find("(segment first, backward) gave Float [2x3] with all values not finite") != std::string::npos);
  }
}

// Mistake caught: an index that the library reports (or, on a GPU, an assertion of the device) without the layer it belongs to.
TEST_CASE("an index out of range is named before the operation fails, and what failed is named after") {
  DebugWatch watch;
  const at::Tensor table = at::ones({10, 3}), indices = at::arange(9, 13);
  CHECK_THROWS_AS(run(watch, same, [&](const at::Tensor& x) { return x.sum() + at::embedding(table, indices); }), c10::Error);
  CHECK(watch.out_of_range() == "embedding (segment second, forward): index 12 of 10, which are 0 to 9");
  CHECK(watch.last_operation().find("segment second, forward") != std::string::npos);
  watch.begin();
  CHECK_THROWS(run(watch, [](const at::Tensor& x) { return x.matmul(at::ones({7, 7})); }, same));
  CHECK(watch.last_operation().find("(segment first, forward) of Float [2x3], Float [7x7]") != std::string::npos);
}
