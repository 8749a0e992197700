// A segment that is run again in the backward pass, against the same network run straight through: every bit has to be the same.
#include "framework/train/checkpointed_segment.hpp"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/conv3d.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include <exception>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>

#include <sluice/error.hpp>

#include "fakes.hpp"
#include "framework/train/capped_allocator.hpp"
#include "framework/train/pass.hpp"
#include "framework/train/step.hpp"

using namespace sluice;

namespace {

using Tensors = std::vector<at::Tensor>;

// Blocks of convolution, batch norm, relu and both kinds of dropout, each a segment; all that is random or has a state.
struct Net {
  struct Block {
    at::Tensor kernel, scale, shift, mean, variance;
  };
  std::vector<Block> blocks;
  at::Tensor fc;
  double bare_dropout = 0.2;
  std::vector<int> runs;  // of each segment's first operation, and of its last

  explicit Net(at::ScalarType type = at::kFloat, int count = 3) {
    at::manual_seed(5);
    const auto options = at::TensorOptions(type);
    for (int i = 0; i < count; ++i) {
      const std::int64_t in = i == 0 ? 3 : 16;
      blocks.push_back({at::randn({16, in, 3, 3, 3}, options).mul_(0.1).set_requires_grad(true), at::ones({16}, options).set_requires_grad(true),
                        at::zeros({16}, options).set_requires_grad(true), at::zeros({16}, options), at::ones({16}, options)});
    }
    fc = at::randn({5, 16}, options).mul_(0.1).set_requires_grad(true);
    runs.assign(2 * blocks.size(), 0);
  }

  Tensors statistics() const {
    Tensors out;
    for (const auto& block : blocks) out.insert(out.end(), {block.mean, block.variance});
    return out;
  }
  Tensors weights() const {
    Tensors out;
    for (const auto& block : blocks) out.insert(out.end(), {block.kernel, block.scale, block.shift});
    out.push_back(fc);
    return out;
  }

  at::Tensor loss(const at::Tensor& clip, Pass& pass) {
    at::Tensor x = clip;
    for (std::size_t i = 0; i < blocks.size(); ++i)
      x = pass.segment("block" + std::to_string(i), [this, i, &pass](const at::Tensor& in) {
        ++runs[2 * i];
        const Block& block = blocks[i];
        at::Tensor y = at::conv3d(in, block.kernel, {}, 1, 1);
        y = at::batch_norm(y, block.scale, block.shift, block.mean, block.variance, true, 0.1, 1e-5, false).relu_();
        y = pass.dropout(y, 0.3);
        if (bare_dropout > 0) y = at::dropout(y, bare_dropout, true);
        y = y * 1.5;  // saves a scalar alone: what comes after the last saved tensor
        ++runs[2 * i + 1];
        return y;
      }, x);
    return at::linear(x.mean({2, 3, 4}), fc).square().sum();
  }
};

at::Tensor clips(at::ScalarType type = at::kFloat, std::int64_t n = 4) {
  at::manual_seed(9);
  return at::randn({n, 3, 4, 10, 10}, at::TensorOptions(type));
}

struct Outcome {
  double loss = 0;
  Tensors gradients, statistics;
  std::vector<int> runs;
  std::uint64_t held = 0;  // bytes that live after the forward pass, for the backward pass
};

Outcome train_once(Net net, const at::Tensor& x, const SegmentPlan& checkpointing) {
  const Tensors statistics = net.statistics();
  at::manual_seed(21);
  auto& allocator = CappedAllocator::install();
  MicrobatchPass pass(true, {1, 2, 3, 4}, {&checkpointing, statistics});
  const auto before = allocator.counters().live;
  const at::Tensor loss = net.loss(x, pass);
  Outcome out;
  out.held = allocator.counters().live - before;
  loss.backward();
  out.loss = loss.item<double>();
  for (const auto& weight : net.weights()) out.gradients.push_back(weight.grad());
  out.statistics = statistics;
  out.runs = net.runs;
  // What is drawn after the step goes on from the same place, however often segments ran.
  out.statistics.push_back(at::randn({3}));
  return out;
}

bool same(const Tensors& a, const Tensors& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!a[i].equal(b[i])) return false;
  return true;
}

// Runs forward and backward of `function` as one checkpointed segment over a leaf; returns the error's text, or "".
std::string error_of(std::function<at::Tensor(const at::Tensor&)> function, const std::function<void(at::Tensor& input, at::Tensor& output)>& between = {}) {
  at::Tensor leaf = at::ones({4, 8}).set_requires_grad(true);
  at::Tensor input = leaf * 2;
  try {
    SegmentRun run;
    run.name = "stem";
    run.function = [function = std::move(function)](const Tensors& in) { return Tensors{function(in.front())}; };
    run.inputs = {input};
    at::Tensor output = run_checkpointed(std::move(run)).front();
    if (between) between(input, output);
    output.sum().backward();
  } catch (const Error& error) {
    return error.message();
  }
  return {};
}

}  // namespace

// Mistakes caught: other random numbers in the second run, statistics that move twice, a tensor out of place, a later draw that
// depends on how often segments ran.
TEST_CASE("gradients, statistics and what is drawn later are those of the plain run, bit for bit") {
  for (const auto type : {at::kFloat, at::kDouble}) {
    const at::Tensor x = clips(type);
    const Outcome plain = train_once(Net(type), x, {});
    CHECK(plain.runs == std::vector<int>{1, 1, 1, 1, 1, 1});
    for (const auto& checkpointing : {SegmentPlan{true, {}}, SegmentPlan{false, {"block1"}}, SegmentPlan{false, {"block0", "block2"}}}) {
      const Outcome again = train_once(Net(type), x, checkpointing);
      CHECK(again.loss == plain.loss);
      CHECK(same(again.gradients, plain.gradients));
      CHECK(same(again.statistics, plain.statistics));
    }
  }
}

// Planted defect: the comparison above has to see statistics that moved twice and masks drawn anew.
TEST_CASE("a second pass over the same clips moves statistics and draws anew") {
  Net net;
  const at::Tensor x = clips();
  MicrobatchPass pass(true, {1, 2, 3, 4});
  const double first = net.loss(x, pass).item<double>();
  const Tensors once{net.blocks[0].mean.clone()};
  CHECK(net.loss(x, pass).item<double>() != first);
  CHECK_FALSE(same({net.blocks[0].mean}, once));
}

// Mistake caught: a second run that goes to the end, or happens once for each tensor.
TEST_CASE("a segment runs a second time once, and stops at the last tensor that is needed") {
  const Outcome all = train_once(Net(), clips(), {true, {}});
  CHECK(all.runs == std::vector<int>{2, 1, 2, 1, 2, 1});
  CHECK(train_once(Net(), clips(), {false, {"block1"}}).runs == std::vector<int>{1, 1, 2, 1, 1, 1});
}

// Mistake caught: hooks that hold what they should drop; a graph that holds its segments for ever.
TEST_CASE("what lives between forward and backward is a fraction, and nothing stays") {
  auto& allocator = CappedAllocator::install();
  const at::Tensor x = clips();
  const auto plain = train_once(Net(), x, {}).held;
  const auto before = allocator.counters().live;
  const auto checkpointed = train_once(Net(), x, {true, {}}).held;
  CHECK(allocator.counters().live == before);
  CHECK(checkpointed < plain / 3);
  {
    Net net;
    const Tensors statistics = net.statistics();
    const SegmentPlan all{true, {}};
    MicrobatchPass pass(true, {1, 2, 3, 4}, {&all, statistics});
    CHECK(net.loss(x, pass).item<double>() > 0);  // and no backward pass
  }
  CHECK(allocator.counters().live == before);
}

// Mistake caught: a second run in another precision, which fits no tensor of the first.
TEST_CASE("autocast is that of the first run, also when it is over") {
  const auto run = [](const SegmentPlan& checkpointing) {
    Net net;
    const Tensors statistics = net.statistics();
    at::manual_seed(21);
    MicrobatchPass pass(true, {1, 2, 3, 4}, {&checkpointing, statistics});
    at::Tensor loss;
    {
      at::autocast::set_autocast_enabled(at::kCPU, true);
      at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
      loss = net.loss(clips(), pass);
      at::autocast::clear_cache();
      at::autocast::set_autocast_enabled(at::kCPU, false);
    }
    loss.backward();
    CHECK_FALSE(at::autocast::is_autocast_enabled(at::kCPU));
    Tensors out;
    for (const auto& weight : net.weights()) out.push_back(weight.grad());
    return out;
  };
  CHECK(same(run({true, {}}), run({})));
}

// Mistake caught: an allocation that fails in the second run and leaves bytes, statistics or random state behind.
TEST_CASE("any allocation of forward and backward may fail: the type arrives, no byte stays, and the next try is right") {
  auto& allocator = CappedAllocator::install();
  const at::Tensor x = clips(at::kFloat, 2);
  const SegmentPlan all{true, {}};
  const auto attempt = [&](Net& net) {
    const Tensors statistics = net.statistics();
    at::manual_seed(21);
    MicrobatchPass pass(true, {1, 2}, {&all, statistics});
    net.loss(x, pass).backward();
  };
  Net expected(at::kFloat, 2);
  attempt(expected);
  Net net(at::kFloat, 2);
  int failures = 0;
  const auto before = allocator.counters().live;
  for (std::uint64_t n = 1;; ++n) {
    Tensors were;
    for (const auto& statistic : net.statistics()) were.push_back(statistic.clone());
    allocator.fail_at(n);
    try {
      attempt(net);
      allocator.fail_at(0);
      break;
    } catch (const c10::OutOfMemoryError&) {
      ++failures;
    }
    for (std::size_t i = 0; i < were.size(); ++i) net.statistics()[i].copy_(were[i]);  // as Step does
    for (auto& weight : net.weights()) weight.mutable_grad().reset();
    were.clear();
    CHECK(allocator.counters().live == before);
  }
  CHECK(failures > 30);
  for (std::size_t i = 0; i < net.weights().size(); ++i) CHECK(net.weights()[i].grad().equal(expected.weights()[i].grad()));
  CHECK(same(net.statistics(), expected.statistics()));
}

// Mistake caught: wrong gradients in silence. Autograd's own check does not see tensors that hooks took.
TEST_CASE("what cannot be run again is an error that names the segment") {
  CHECK(error_of([](const at::Tensor& x) { return x.square(); }).empty());
  CHECK(error_of([](const at::Tensor& x) { return at::Tensor(x).relu_().square(); }) == "the segment 'stem' cannot be run again: it changes an input in place");
  CHECK(error_of([](const at::Tensor& x) { return x.square(); }, [](at::Tensor& input, at::Tensor&) { input.add_(1); }) ==
        "the segment 'stem' cannot be run again: an input was changed in place after it had run");
  int runs = 0;
  CHECK(error_of([&runs](const at::Tensor& x) { return (runs++ == 0 ? x : x.narrow(0, 0, 2)).square(); }) == "the segment 'stem' made Float [4x8] in its first run and Float [2x8] in its second");
  runs = 0;
  CHECK(error_of([&runs](const at::Tensor& x) { return runs++ == 0 ? x.square().square() : x.square(); }) == "the segment 'stem' saved 2 tensors in its first run and 1 in its second");
  // square() saves what add_() then changes.
  CHECK(error_of([](const at::Tensor& x) {
          at::Tensor y = x * 3;
          const at::Tensor z = y.square();
          y.add_(1);
          return z.square() + y;
        }) == "the segment 'stem' changes in place what its backward pass needs");
  CHECK(error_of([](const at::Tensor& x) { return x.square(); }, [](at::Tensor&, at::Tensor& output) { output.sum().backward({}, true); }) == "");
}

// Mistake caught: the gradient of other values than the first run had, without a word; and a statistic, which moves, taken for such.
TEST_CASE("a tensor that the segment captured and that is changed before it runs again is an error, as it is without checkpointing") {
  const auto captured = [](bool change, bool leaf) {
    at::Tensor weight = at::ones({8}).set_requires_grad(leaf);
    return error_of([weight](const at::Tensor& x) { return (x * weight).square(); },
                    [&](at::Tensor&, at::Tensor&) {
                      const at::NoGradGuard no_grad;
                      if (change) weight.add_(1);
                    });
  };
  for (const bool leaf : {false, true}) {
    CHECK(captured(false, leaf).empty());
    CHECK(captured(true, leaf) == "the segment 'stem' cannot be run again: a tensor that it captured, Float [8], was changed in place after it had run");
  }
  at::Tensor mean = at::zeros({8});
  const Tensors statistics{mean};
  SegmentRun run;
  run.name = "stem";
  run.function = [mean](const Tensors& in) mutable {
    const at::NoGradGuard no_grad;
    mean.lerp_(in.front().detach().mean(0), 0.1);
    const c10::AutoGradMode with_gradients(true);
    return Tensors{(in.front() * mean).square()};
  };
  at::Tensor leaf = at::ones({4, 8}).set_requires_grad(true);
  run.inputs = {leaf * 2};
  run.statistics = statistics;
  CHECK_NOTHROW(run_checkpointed(std::move(run)).front().sum().backward());
}

// Mistake caught: a second run in the state of the thread that asks for the gradient. Planted: without the ThreadLocalStateGuard nothing
// is saved in the second run, for below autograd and in inference mode nothing is.
TEST_CASE("a backward pass on another thread, in another state, runs the segment as the first time") {
  const auto run = [](const SegmentPlan& checkpointing, const std::function<void(const std::function<void()>&)>& on_thread) {
    Net net;
    const Tensors statistics = net.statistics();
    at::manual_seed(21);
    MicrobatchPass pass(true, {1, 2, 3, 4}, {&checkpointing, statistics});
    const at::Tensor loss = net.loss(clips(), pass);
    std::exception_ptr failed;
    std::thread([&] {
      try {
        on_thread([&] { loss.backward(); });
      } catch (...) {
        failed = std::current_exception();
      }
    }).join();
    if (failed) std::rethrow_exception(failed);
    Tensors out = statistics;
    for (const auto& weight : net.weights()) out.push_back(weight.grad());
    return out;
  };
  using OnThread = std::function<void(const std::function<void()>&)>;
  for (const auto& on_thread : std::vector<OnThread>{
           [](const auto& backward) { backward(); },
           [](const auto& backward) {
             const c10::AutoGradMode off(false);
             backward();
             CHECK_FALSE(c10::GradMode::is_enabled());
           },
           [](const auto& backward) {
             const at::AutoDispatchBelowAutograd below;
             backward();
           },
           [](const auto& backward) {
             at::autocast::set_autocast_enabled(at::kCPU, true);
             backward();
             CHECK(at::autocast::is_autocast_enabled(at::kCPU));
           },
       })
    CHECK(same(run({true, {}}, on_thread), run({}, on_thread)));
}

// Mistake caught: a plan for one of two segments that share a name, or for one inside of another that already is.
TEST_CASE("segments go by path and occurrence") {
  struct Names final : SegmentObserver {
    std::vector<std::string> seen, again;
    void begins(const std::string& path) override { seen.push_back(path); }
    void ends(const std::string&, const Tensors& outputs) override { CHECK(outputs.size() == 1); }
    void saves_output(const std::string&) override {}
    void comes_back(const std::string&) override {}
    void runs_again(const std::string& path, bool begins) override {
      if (begins) again.push_back(path);
    }
  };
  const auto run = [](const SegmentPlan& checkpointing) {
    Names names;
    const at::Tensor w = at::ones({4}).set_requires_grad(true);
    MicrobatchPass pass(true, {1}, {&checkpointing, {}, &names});
    const auto inner = [&](const at::Tensor& x) { return pass.segment("mlp", [&](const at::Tensor& y) { return pass.dropout(y.exp(), 0.4); }, x); };
    at::Tensor x = w.unsqueeze(0);
    for (int i = 0; i < 2; ++i) x = pass.segment("block", [&](const at::Tensor& y) { return inner(inner(y) * 0.1); }, x * 0.1);
    x.sum().backward();
    return std::pair(names, w.grad());
  };
  const auto plain = run({});
  CHECK(plain.first.seen == std::vector<std::string>{"block", "block/mlp", "block/mlp#2", "block#2", "block#2/mlp", "block#2/mlp#2"});
  CHECK(plain.first.again.empty());
  const auto second = run({false, {"block#2"}});
  CHECK(second.first.again == std::vector<std::string>{"block#2"});
  CHECK(run({false, {"block/mlp#2"}}).first.again == std::vector<std::string>{"block/mlp#2"});
  CHECK(run({false, {"block", "block/mlp"}}).first.again == std::vector<std::string>{"block"});
  for (const auto& checkpointing : {SegmentPlan{true, {}}, SegmentPlan{false, {"block#2"}}, SegmentPlan{false, {"block/mlp#2", "block#2/mlp"}}})
    CHECK(run(checkpointing).second.equal(plain.second));
}

// Mistake caught: a step that forgets the plan, or hands the segments no statistics.
TEST_CASE("a step with checkpointing learns the same bits as one without") {
  std::vector<FinishedSample> batch;
  for (std::int64_t i = 0; i < 5; ++i) batch.push_back(fakes::make_sample(i, fakes::make_clip(4, 6, 6, static_cast<std::uint32_t>(i)), i % 3));
  const auto train = [&](const SegmentPlan& checkpointing) {
    fakes::TinyModel model(3, at::kFloat, 0.3);
    fakes::TinyLoss loss;
    fakes::TinySgd optimizer;
    optimizer.prepare(model.weights());
    StepOptions options;
    options.microbatch = 2;
    options.classes = 3;
    options.segments = checkpointing;
    Step step(model, loss, optimizer, options);
    const Assembler assembler({fakes::clip_and_label(4, 6, 6), {{0.5, 0.5, 0.5}, {0.25, 0.25, 0.25}, "auto"}, at::kCPU, false});
    for (int i = 0; i < 3; ++i) CHECK(step.run(assembler, batch, 0.1).updated);
    Tensors out;
    for (const auto& weight : model.weights()) out.push_back(weight.tensor);
    return out;
  };
  CHECK(same(train({true, {}}), train({})));
}
