// What --debug says of a step that went wrong.
#include "framework/train/debug_watch.hpp"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <ATen/TensorIndexing.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv3d.h>
#include <ATen/ops/ctc_loss.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/embedding_bag.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/index_add.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/nll_loss.h>
#include <ATen/ops/one_hot.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
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
  INFO(watch.first_not_finite());
  CHECK(watch.first_not_finite().starts_with("mul"));  // whichever of the two forms says so first
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

namespace {

// What is said of `call`, run in a segment; whether it throws is LibTorch's business.
struct Said {
  std::string range, mismatch;
};
Said said_of(DebugWatch& watch, const std::function<void()>& call) {
  try {
    run(watch, [&](const at::Tensor& x) { return call(), same(x); }, same);
  } catch (const c10::Error&) {
  }
  return {watch.out_of_range(), watch.mismatched()};
}

at::Tensor ids(std::vector<std::int64_t> values) { return at::tensor(values, at::kLong); }

}  // namespace

// Mistake caught: an operation that is not looked at, among them those that go on with an index that is none; padding, an ignored index,
// an index from behind, a mask or autocast taken for a mistake.
TEST_CASE("indices are looked at before an operation runs, whatever it makes of them") {
  DebugWatch watch;
  const at::Tensor table = at::ones({4, 3}), row = at::ones({4}), mask = row.gt(0), scores = at::zeros({5, 2, 6}).log_softmax(2);
  const auto ctc = [&](const at::Tensor& targets, std::vector<std::int64_t> steps, std::vector<std::int64_t> lengths) { return at::ctc_loss(scores, targets, steps, lengths); };
  struct Case {
    std::string said;
    std::function<void()> call;
  };
  for (const auto& [said, call] : std::vector<Case>{
           {"gather (segment first, forward): index 3 of 3", [&] { table.gather(1, ids({0, 3}).unsqueeze(0)); }},
           {"gather (segment first, forward): index -1 of 3", [&] { table.gather(-1, ids({-1}).unsqueeze(0)); }},
           {"scatter_add (segment first, forward): index 4 of 4", [&] { row.scatter_add(0, ids({4}), at::ones({1})); }},
           {"index_add (segment first, forward): index 9 of 4", [&] { at::index_add(row, 0, ids({9}), at::ones({1})); }},
           {"index (segment first, forward): index 5 of 3", [&] { table.index({at::indexing::TensorIndex(at::indexing::Slice()), ids({5})}); }},
           {"index_put_ (segment first, forward): index -5 of 4", [&] { table.clone().index_put_({ids({-5})}, at::ones({3})); }},
           {"take (segment first, forward): index 12 of 12", [&] { table.take(ids({12})); }},
           {"one_hot (segment first, forward): index 3 of 3", [&] { at::one_hot(ids({0, 3}), 3); }},
           {"embedding_bag (segment first, forward): index 4 of 4", [&] { at::embedding_bag(table, ids({0, 4}), ids({0})); }},
           {"nll_loss (segment first, forward): index 3 of 3", [&] { at::nll_loss(table, ids({0, 1, 2, 3})); }},
           {"ctc_loss (segment first, forward): index 7 of 6", [&] { ctc(ids({1, 2, 3, 7}).view({2, 2}), {5, 5}, {2, 2}); }},
           {"ctc_loss (segment first, forward): index 7 of 6", [&] { ctc(ids({1, 2, 7}), {5, 5}, {2, 1}); }},
           {"ctc_loss (segment first, forward): clip 1 of the batch has 6 steps of 5", [&] { ctc(ids({1, 2, 3, 4}).view({2, 2}), {5, 6}, {2, 2}); }},
           {"ctc_loss (segment first, forward): clip 0 of the batch has 3 targets of 2", [&] { ctc(ids({1, 2, 3, 4}).view({2, 2}), {5, 5}, {3, 2}); }},
           {"ctc_loss (segment first, forward): clip 1 of the batch has the blank, 0, among its targets", [&] { ctc(ids({1, 2, 3, 0}).view({2, 2}), {5, 5}, {2, 2}); }},
       }) {
    CAPTURE(said);
    const auto found = said_of(watch, call);
    CHECK(found.range.starts_with(said));
  }
  for (const auto& call : std::vector<std::function<void()>>{
           [&] { ctc(ids({1, 2, 3, -1}).view({2, 2}), {5, 5}, {2, 1}); },
           [&] { at::nll_loss(table, ids({0, 1, 2, -100})); },
           [&] { table.index({ids({-1})}); },
           [&] { table.index({mask}); },
           [&] { table.index({mask.unsqueeze(1).expand({4, 3})}); },
           [&] { table.take(ids({-12, 11})); },
           [&] { at::one_hot(ids({0, 3})); },
           [&] { row.index_fill(0, ids({-1}), 2); },
       })
    CHECK(said_of(watch, call).range.empty());
}

// Mistake caught: LibTorch's words alone, which name neither the layer nor what met what; a network in mixed precision that is cried over.
TEST_CASE("operands that do not fit one another are named before the operation fails") {
  DebugWatch watch;
  const at::Tensor rows = at::ones({2, 24}), clip = at::ones({1, 3, 4, 4, 4});
  struct Case {
    std::string said;
    std::function<void()> call;
  };
  for (const auto& [said, call] : std::vector<Case>{
           {"linear (segment first, forward): 24 features meet a weight for 16", [&] { at::linear(rows, at::ones({4, 16})); }},
           {"matmul (segment first, forward): rows of 24 meet columns of 7", [&] { rows.matmul(at::ones({7, 7})); }},
           {"conv3d (segment first, forward): 3 channels meet a kernel for 4", [&] { at::conv3d(clip, at::ones({2, 4, 1, 1, 1})); }},
           {"linear (segment first, forward): Float meets Double", [&] { at::linear(rows, at::ones({4, 24}, at::kDouble)); }},
           {"add (segment first, forward): axis -1 is of 24 here and of 23 there", [&] { rows + at::ones({23}); }},
           {"cat (segment first, forward): Float [3x4] does not go with Float [2x24] along axis 0", [&] { at::cat({rows, at::ones({3, 4})}, 0); }},
       }) {
    CAPTURE(said);
    CHECK(said_of(watch, call).mismatch == said);
  }
  for (const auto& call : std::vector<std::function<void()>>{
           [&] { at::linear(rows, at::ones({4, 24})); },
           [&] { rows.matmul(at::ones({24})); },
           [&] { at::conv3d(at::ones({1, 4, 2, 2, 2}), at::ones({4, 2, 1, 1, 1}), {}, 1, 1, 1, 2); },
           [&] { at::conv3d(at::ones({3, 4, 4, 4}), at::ones({2, 3, 1, 1, 1})); },
           [&] { rows + at::ones({2, 1}); },
           [&] { rows + at::ones({24}, at::kDouble); },
           [&] { at::cat({rows, at::ones({2, 4})}, -1); },
           [&] {
             at::autocast::set_autocast_enabled(at::kCPU, true);
             at::linear(rows, at::ones({4, 24}, at::kBFloat16));
             at::autocast::set_autocast_enabled(at::kCPU, false);
           },
       })
    CHECK(said_of(watch, call).mismatch.empty());
}
