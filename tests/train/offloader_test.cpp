// A segment whose activations wait in host memory, against the same network run straight through: every bit has to be the same, and the
// memory of the device has to be gone in between.
#include "framework/train/offloader.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/conv3d.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include <c10/util/Exception.h>

#include <sluice/error.hpp>

#include "framework/base/bytes.hpp"
#include "framework/train/capped_allocator.hpp"
#include "framework/train/offload_store.hpp"
#include "framework/train/pass.hpp"

using namespace sluice;

namespace {

using Tensors = std::vector<at::Tensor>;

// Blocks with a shortcut, of convolution, batch norm, relu and dropout, each a segment, or none is; the last relu's output is what the block returns.
struct Net {
  struct Block {
    at::Tensor first, second, scale, shift, mean, variance;
  };
  std::vector<Block> blocks;
  at::Tensor fc;
  bool named = true;

  explicit Net(at::ScalarType type = at::kFloat) {
    at::manual_seed(5);
    const auto options = at::TensorOptions(type);
    for (int i = 0; i < 3; ++i) {
      const std::int64_t in = i == 0 ? 3 : 16;
      blocks.push_back({at::randn({16, in, 3, 3, 3}, options).mul_(0.1).set_requires_grad(true), at::randn({16, 16, 3, 3, 3}, options).mul_(0.1).set_requires_grad(true),
                        at::ones({16}, options).set_requires_grad(true), at::zeros({16}, options).set_requires_grad(true), at::zeros({16}, options), at::ones({16}, options)});
    }
    fc = at::randn({5, 16}, options).mul_(0.1).set_requires_grad(true);
  }
  Tensors statistics() const {
    Tensors out;
    for (const auto& block : blocks) out.insert(out.end(), {block.mean, block.variance});
    return out;
  }
  Tensors weights() const {
    Tensors out{fc};
    for (const auto& block : blocks) out.insert(out.end(), {block.first, block.second, block.scale, block.shift});
    return out;
  }
  at::Tensor loss(const at::Tensor& clip, Pass& pass) const {
    at::Tensor x = clip;
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      const auto run = [block = blocks[i], &pass](const at::Tensor& in) {
        const at::Tensor shortcut = at::conv3d(in, block.first, {}, 1, 1);
        at::Tensor y = at::batch_norm(shortcut, block.scale, block.shift, block.mean, block.variance, true, 0.1, 1e-5, false).relu_();
        y = pass.dropout(y, 0.3).transpose(3, 4);  // what is saved is no longer contiguous
        y = at::conv3d(y, block.second, {}, 1, 1);
        return (y + shortcut.transpose(3, 4)).relu();
      };
      x = named ? pass.segment("block" + std::to_string(i), run, x) : run(x);
    }
    return at::linear(x.mean({2, 3, 4}), fc).square().sum();
  }
};

struct Outcome {
  double loss = 0;
  Tensors gradients, statistics;
  std::uint64_t held = 0, peak = 0;      // bytes above what lived before: after the forward pass, and at most
  std::uint64_t stored = 0, left = 0;  // in host memory after the forward pass, and after the backward pass
};

Outcome train_once(const Net& net, const at::Tensor& x, const SegmentPlan& segments) {
  const Tensors statistics = net.statistics();
  auto& allocator = CappedAllocator::install();
  const auto before = allocator.counters().live;
  allocator.reset_peak();
  Outcome out;
  {
    MicrobatchPass pass(true, {1, 2, 3, 4}, {&segments, statistics});
    const at::Tensor loss = pass.whole_is_planned() ? pass.run_whole([&](const Tensors& in) { return Tensors{net.loss(in.front(), pass)}; }, {x}).front() : net.loss(x, pass);
    out.held = allocator.counters().live - before;
    out.stored = OffloadStore::instance().counters().live;
    loss.backward();
    out.loss = loss.item<double>();
  }
  out.peak = allocator.counters().peak - before;
  out.left = OffloadStore::instance().counters().live;
  for (const auto& weight : net.weights()) out.gradients.push_back(weight.grad());
  out.statistics = statistics;
  return out;
}

at::Tensor clips(at::ScalarType type = at::kFloat) {
  at::manual_seed(9);
  return at::randn({4, 3, 4, 20, 20}, at::TensorOptions(type));
}

bool same(const Tensors& a, const Tensors& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const at::Tensor& x, const at::Tensor& y) { return x.equal(y); });
}

// One segment over a leaf, forward and backward; the error's text, or "".
std::string error_of(const Offloader::Function& function, const std::function<void(at::Tensor&, at::Tensor&)>& between = {}) {
  at::Tensor leaf = at::ones({64, 1024}).set_requires_grad(true);
  at::Tensor input = leaf * 2;
  try {
    const auto offloader = std::make_shared<Offloader>(Offloader::Options{});
    at::Tensor output = offloader->run("stem", function, {input}).front();
    if (between) between(input, output);
    output.sum().backward();
  } catch (const Error& error) {
    return error.message();
  }
  return {};
}

}  // namespace

// Mistakes caught: bytes of another tensor, lost strides, a storage that is copied after it was written over, a shortcut's two readers
// that get two copies.
TEST_CASE("gradients and statistics of offloaded segments are those of the plain run, bit for bit") {
  for (const auto type : {at::kFloat, at::kDouble}) {
    const at::Tensor x = clips(type);
    const Outcome plain = train_once(Net(type), x, {});
    CHECK(plain.stored == 0);
    for (const auto& segments : {SegmentPlan{{}, {true, {}}}, SegmentPlan{{}, {false, {"block1"}}}, SegmentPlan{{true, {}}, {false, {"block0", "block2"}}}}) {
      const Outcome moved = train_once(Net(type), x, segments);
      CHECK(moved.loss == plain.loss);
      CHECK(same(moved.gradients, plain.gradients));
      CHECK(same(moved.statistics, plain.statistics));
      CHECK(moved.stored > 0);
      CHECK(moved.left == 0);
    }
  }
}

// Mistakes caught: draws that follow the name of a segment that the model never gave, and so change with the plan; a second forward pass
// that moves the statistics again.
TEST_CASE("a model that names no segments is one, which draws what it would draw without") {
  Net plain_net, moved_net, again_net;
  plain_net.named = moved_net.named = again_net.named = false;
  const at::Tensor x = clips();
  SegmentPlan every, offload, twice;
  every.offload.all = true;
  offload.offload.names.emplace(whole_model);
  twice.twice.names.emplace(whole_model);
  const Outcome plain = train_once(plain_net, x, every), moved = train_once(moved_net, x, offload), again = train_once(again_net, x, twice);
  CHECK(plain.stored == 0);
  CHECK(moved.stored > plain.held / 2);
  CHECK(moved.held < plain.held / 2);
  CHECK(moved.left == 0);
  for (const auto* other : {&moved, &again}) {
    CHECK(other->loss == plain.loss);
    CHECK(same(other->gradients, plain.gradients));
    CHECK(same(other->statistics, plain.statistics));
  }
}

// Mistakes caught: activations that are copied and kept all the same; a storage that comes back long before it is needed, or stays.
TEST_CASE("what an offloaded segment keeps is in host memory, and the device holds inputs and outputs") {
  const at::Tensor x = clips();
  const Outcome plain = train_once(Net(), x, {}), moved = train_once(Net(), x, {{}, {true, {}}}), again = train_once(Net(), x, {{true, {}}, {}});
  INFO("plain " << plain.held << " and " << plain.peak << ", offloaded " << moved.held << " and " << moved.peak << ", twice " << again.held << " and " << again.peak << ", stored " << moved.stored);
  CHECK(plain.held > moved.held + moved.stored / 10 * 9);
  // Of the last block the plain mean keeps nothing, so its output stays for the relu that made it alone.
  CHECK(moved.held < again.held + static_cast<std::uint64_t>(4 * 16 * 4 * 20 * 20 * 4) + 64 * KiB);
  CHECK(moved.peak < plain.peak);
  CHECK(moved.peak <= again.peak);
}

TEST_CASE("a storage comes back ahead of its turn where that is wanted, and no bit changes") {
  const auto run = [](int ahead) {
    const Net net;
    const at::Tensor x = clips();
    const auto offloader = std::make_shared<Offloader>(Offloader::Options{.lasting = {}, .observer = nullptr, .ahead = ahead});
    MicrobatchPass plain(true, {1, 2, 3, 4});
    auto& allocator = CappedAllocator::install();
    const at::Tensor loss = offloader->run("all", [&](const Tensors& in) { return Tensors{net.loss(in.front(), plain)}; }, {x}).front();
    allocator.reset_peak();
    const auto before = allocator.counters().live;
    loss.backward();
    Tensors gradients;
    for (const auto& weight : net.weights()) gradients.push_back(weight.grad());
    return std::pair(gradients, allocator.counters().peak - before);
  };
  const auto [one, least] = run(0);
  const auto [two, more] = run(2);
  CHECK(same(one, two));
  CHECK(more > least);
}

// Mistakes caught: a cap that counts nothing; a refusal that leaves blocks behind; memory that is never used again.
TEST_CASE("the store has a cap of its own, and takes its memory back") {
  auto& store = OffloadStore::instance();
  const at::Tensor x = clips();
  const std::uint64_t needed = train_once(Net(), x, {{}, {true, {}}}).stored;
  store.set_cap(needed);
  CHECK_NOTHROW(static_cast<void>(train_once(Net(), x, {{}, {true, {}}})));
  store.set_cap(needed - 1);
  auto& allocator = CappedAllocator::install();
  const auto before = allocator.counters().live;
  CHECK_THROWS_AS(static_cast<void>(train_once(Net(), x, {{}, {true, {}}})), c10::OutOfMemoryError);
  CHECK(store.counters().live == 0);
  CHECK(allocator.counters().live <= before + 64 * KiB);
  store.set_cap(0);
  store.reset_peak();
  static_cast<void>(train_once(Net(), x, {{}, {true, {}}}));
  CHECK(store.counters().kept == needed);
  CHECK(store.counters().peak == needed);
  store.trim();
  CHECK(store.counters().kept == 0);
}

// Mistakes caught: blocks that a failed pass leaves in the store or on the device, gradients of what came back half.
TEST_CASE("whichever allocation fails while segments are offloaded, nothing is left behind, and the next pass is as it was") {
  auto& allocator = CappedAllocator::install();
  auto& store = OffloadStore::instance();
  const at::Tensor x = clips();
  const SegmentPlan all{{}, {true, {}}};
  const Outcome clean = train_once(Net(), x, all);
  const auto before = allocator.counters();
  const Net once;
  const auto of_net = allocator.counters().allocations;
  static_cast<void>(train_once(once, x, all));
  const std::uint64_t count = allocator.counters().allocations - of_net;
  REQUIRE(count > 100);
  int failed = 0;
  for (std::uint64_t n = 1; n <= count; n += 3) {
    const Net net;
    const auto live = allocator.counters().live;
    allocator.fail_at(n);
    try {
      static_cast<void>(train_once(net, x, all));
    } catch (const c10::OutOfMemoryError&) {
      ++failed;
      for (const auto& weight : net.weights()) const_cast<at::Tensor&>(weight).mutable_grad().reset();
      CHECK(store.counters().live == 0);
      CHECK(allocator.counters().live == live);
    }
    allocator.fail_at(0);
  }
  CHECK(failed > static_cast<int>(count) / 6);
  CHECK(allocator.counters().live <= before.live + 4 * MiB);
  CHECK(same(train_once(Net(), x, all).gradients, clean.gradients));
}

// Mistake caught: gradients of values that were written over, without a word.
TEST_CASE("what is changed in place after it was saved is refused, as it is without offloading") {
  const auto twice = [](const Tensors& in) { return Tensors{in.front() * 2}; };
  CHECK(error_of(twice).empty());
  CHECK(error_of([](const Tensors& in) {
          at::Tensor y = in.front().exp();
          at::Tensor z = y.sin();
          y.add_(1);
          return Tensors{z * 2};
        }).find("the segment 'stem' changes in place what its backward pass needs") != std::string::npos);
  // An input stays on the device, and is watched there.
  CHECK(error_of([](const Tensors& in) { return Tensors{in.front().sin().cos()}; }, [](at::Tensor& input, at::Tensor&) { input.add_(1); }).find("changes in place") != std::string::npos);
  // So is an output, which whoever gets it may change: one that stayed, and one that left and was brought back.
  const auto later = [](at::Tensor&, at::Tensor& output) { output.add_(1); };
  CHECK(error_of([](const Tensors& in) { return Tensors{in.front().exp()}; }, later).find("changes in place") != std::string::npos);
  CHECK(error_of([](const Tensors& in) {
          at::Tensor first = in.front().exp();
          static_cast<void>((first * 2).sin());
          return Tensors{first};
        }, later).find("changes in place") != std::string::npos);
  // What nobody saved may be changed.
  CHECK(error_of([](const Tensors& in) { return Tensors{in.front().sin() + 1}; }, later).empty());
}

// Mistake caught: an output that stays in the store, or is brought back as a second copy.
TEST_CASE("an output that the segment saved stays on the device") {
  auto& store = OffloadStore::instance();
  const auto offloader = std::make_shared<Offloader>(Offloader::Options{});
  at::Tensor leaf = at::randn({64, 1024}).set_requires_grad(true);
  const at::Tensor out = offloader->run("stem", [](const Tensors& in) {
    at::Tensor first = in.front().exp();  // saved, and returned
    static_cast<void>((first * 2).sin());  // saves another one, so the first leaves
    return Tensors{first};
  }, {leaf}).front();
  CHECK(store.counters().live == 0);
  out.sum().backward();
  CHECK(leaf.grad().equal(leaf.detach().exp()));
}
