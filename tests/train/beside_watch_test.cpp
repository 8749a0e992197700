// What a model does beside its Pass: which operators count, which do not, and how they are named.
#include "framework/train/beside_watch.hpp"

#include <functional>
#include <string>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/bernoulli.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/instance_norm.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/native_batch_norm.h>
#include <ATen/ops/native_dropout.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand_like.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/rrelu.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>
#include <torch/nn/modules/dropout.h>

#include <sluice/torch/module.hpp>
#include <sluice/torch/parts.hpp>

#include "framework/train/dropout.hpp"
#include "framework/train/pass.hpp"

using namespace sluice;

namespace {

class WithDropout final : public Module<Head> {
 public:
  WithDropout() : drop_(register_module("drop", torch::nn::Dropout(0.5))), off_(register_module("off", torch::nn::Dropout(0.0))) {}
  at::Tensor forward(const at::Tensor& features, Pass&) override { return off_->forward(drop_->forward(features)); }

 private:
  torch::nn::Dropout drop_, off_;
};

// Of parts; what it computes is the test's.
class Net final : public Model, public WithParts {
 public:
  at::Tensor mean = at::zeros({4}), variance = at::ones({4}), scale = at::ones({4});
  WithDropout head;

  std::vector<NamedTensor> weights() override { return {{"norm.weight", scale}}; }
  std::vector<NamedTensor> statistics() override { return {{"norm.running_mean", mean}, {"norm.running_var", variance}}; }
  void set_training(bool) override {}
  void move_to(at::Device) override {}
  std::int64_t batch_norms(bool) override { return 0; }
  std::vector<NamedPart> parts() override { return {{"fc", &head}}; }
};

using Layer = std::function<at::Tensor(const at::Tensor& x, Pass& pass)>;

// Of a forward and backward pass with `layer` as the segment "layer", or outside of any.
BesidePass seen_of(Net& net, const Layer& layer, bool segment = true, bool checkpointed = false) {
  BesideWatch watch(net, nullptr);
  const SegmentPlan plan{{checkpointed, {}}, {}};
  MicrobatchPass pass(true, {1, 2}, {&plan, {}, &watch});
  const at::Tensor x = at::ones({2, 4, 3, 3}).set_requires_grad(true);
  const at::Tensor y = segment ? pass.segment("layer", [&](const at::Tensor& in) { return layer(in, pass); }, x) : layer(x, pass);
  y.sum().backward();
  return watch.seen();
}

}  // namespace

// Mistake caught: a draw that only the default generator of the CPU would show, or that none shows; one without a name. Keyed dropout, and
// what would draw and is switched off, taken for one.
TEST_CASE("operators that draw are seen, whatever generator they draw from, and named with segment and layer") {
  Net net;
  at::Generator own = at::detail::createCPUGenerator(5);
  struct Case {
    std::string seen;
    Layer layer;
  };
  for (const auto& [seen, layer] : std::vector<Case>{
           {"dropout of the segment 'layer' (layer fc.drop)", [](const at::Tensor& x, Pass&) { return at::dropout(x, 0.3, true); }},
           {"dropout of the segment 'layer' (layer fc.drop)", [&](const at::Tensor& x, Pass& pass) { return net.head.forward(x, pass); }},
           {"native_dropout of the segment 'layer' (layer fc.drop)", [](const at::Tensor& x, Pass&) { return std::get<0>(at::native_dropout(x, 0.3, std::nullopt)); }},
           {"bernoulli_ of the segment 'layer'", [&](const at::Tensor& x, Pass&) { return x * at::empty({3}).bernoulli_(0.5, own); }},
           {"bernoulli of the segment 'layer'", [](const at::Tensor& x, Pass&) { return x * at::bernoulli(at::zeros({3})); }},
           {"rand_like of the segment 'layer'", [](const at::Tensor& x, Pass&) { return x + at::rand_like(x); }},
           {"randn of the segment 'layer'", [](const at::Tensor& x, Pass&) { return x + at::randn({3}); }},
           {"randperm of the segment 'layer'", [](const at::Tensor& x, Pass&) { return x.index_select(0, at::randperm(2, at::kLong)); }},
           {"rrelu of the segment 'layer'", [](const at::Tensor& x, Pass&) { return at::rrelu(x, 0.1, 0.3, true); }},
           {"scaled_dot_product_attention of the segment 'layer'", [](const at::Tensor& x, Pass&) { return at::scaled_dot_product_attention(x, x, x, {}, 0.1); }},
       }) {
    CAPTURE(seen);
    for (const bool checkpointed : {false, true}) {
      const auto found = seen_of(net, layer, true, checkpointed);
      CHECK(found.draws == seen);
      CHECK(found.norm.empty());
    }
  }
  CHECK(seen_of(net, [](const at::Tensor& x, Pass&) { return at::dropout(x, 0.3, true); }, false).draws == "dropout outside of any segment (layer fc.drop)");
  for (const auto& layer : std::vector<Layer>{
           [](const at::Tensor& x, Pass& pass) { return pass.drop_path(pass.dropout(x, 0.3), 0.2); },
           [](const at::Tensor& x, Pass&) {
             const std::vector<std::uint64_t> keys{1, 2};
             return x * sluice::detail::mask_by_operations(x, keys, 0.3, false);
           },
           [](const at::Tensor& x, Pass&) { return at::dropout(x, 0.3, false); },
           [](const at::Tensor& x, Pass&) { return at::dropout(x, 0, true); },
           [](const at::Tensor& x, Pass&) { return at::rrelu(x, 0.1, 0.3, false); },
           [](const at::Tensor& x, Pass&) { return at::scaled_dot_product_attention(x, x, x); },
       })
    for (const bool checkpointed : {false, true}) CHECK_FALSE(seen_of(net, layer, true, checkpointed).any());
}

// Mistake caught: a norm over the batch that moves no buffer, so that nobody sees it; norms of each clip by itself, and of running
// statistics, taken for one.
TEST_CASE("norms that take statistics over the batch are seen, and known by what the model calls its tensors") {
  Net net;
  struct Case {
    std::string seen;
    Layer layer;
  };
  for (const auto& [seen, layer] : std::vector<Case>{
           {"batch_norm of the segment 'layer'", [](const at::Tensor& x, Pass&) { return at::batch_norm(x, {}, {}, {}, {}, true, 0.1, 1e-5, false); }},
           {"batch_norm of the segment 'layer' (norm.weight)", [&](const at::Tensor& x, Pass&) { return at::batch_norm(x, net.scale, {}, {}, {}, true, 0.1, 1e-5, false); }},
           {"batch_norm of the segment 'layer' (norm.running_mean)", [&](const at::Tensor& x, Pass&) { return at::batch_norm(x, net.scale, {}, net.mean, net.variance, true, 0.1, 1e-5, false); }},
           {"native_batch_norm of the segment 'layer'", [](const at::Tensor& x, Pass&) { return std::get<0>(at::native_batch_norm(x, {}, {}, {}, {}, true, 0.1, 1e-5)); }},
       }) {
    CAPTURE(seen);
    const auto found = seen_of(net, layer);
    CHECK(found.norm == seen);
    CHECK(found.draws.empty());
  }
  for (const auto& layer : std::vector<Layer>{
           [&](const at::Tensor& x, Pass&) { return at::batch_norm(x, {}, {}, net.mean, net.variance, false, 0.1, 1e-5, false); },
           [](const at::Tensor& x, Pass&) { return at::instance_norm(x, {}, {}, {}, {}, true, 0.1, 1e-5, false); },
           [](const at::Tensor& x, Pass&) { return at::group_norm(x, 2); },
           [](const at::Tensor& x, Pass&) { return at::layer_norm(x, {3}); },
       })
    CHECK_FALSE(seen_of(net, layer).any());
  // One that follows another is seen, although norms are made of one another.
  CHECK(seen_of(net, [](const at::Tensor& x, Pass&) { return at::batch_norm(at::instance_norm(x, {}, {}, {}, {}, true, 0.1, 1e-5, false), {}, {}, {}, {}, true, 0.1, 1e-5, false); }).norm == "batch_norm of the segment 'layer'");
}
