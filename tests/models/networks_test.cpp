// The networks against their published form: names, shapes, counts, outputs, gradients, bytes kept for the backward pass.
#include <algorithm>
#include <cmath>

#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include "oracle.hpp"
#include "training_half.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

std::string file_of(const std::string& name) { return name == "slow_r50" ? "backbone.slow_r50" : "backbone.r3d"; }

// The weights of the oracle's fill(), in float64. Handles share the tensor with the module, so this sets the module's own.
void fill(Model& model) {
  auto weights = model.weights();
  std::sort(weights.begin(), weights.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  for (std::size_t phase = 0; phase < weights.size(); ++phase) {
    auto& [name, weight] = weights[phase];
    const auto p = static_cast<double>(phase);
    if (weight.dim() >= 2) weight.set_data(wave(weight.sizes(), p, std::sqrt(2.0 / static_cast<double>(weight.numel() / weight.size(0)))));
    else weight.set_data(wave(weight.sizes(), p, 0.1) + (name.ends_with("bias") ? 0.0 : 1.0));
  }
  for (auto& [name, tensor] : model.statistics())
    if (tensor.is_floating_point()) tensor.set_data(tensor.to(at::kDouble));
}

void compare(const std::string& name, Model& model, const at::Tensor& clip) {
  const auto& expected = oracle()["networks"]["results"][name];
  fill(model);
  model.set_training(true);
  StraightPass pass;
  pass.keep = name != "slow_r50";
  const at::Tensor input = clip.clone().requires_grad_();
  const at::Tensor logits = model.forward(named("clip", input), pass).get("logits");
  CHECK(difference(logits, to_tensor(expected["logits"])) < 1e-6);
  for (const auto& [buffer, tensor] : model.statistics())
    CHECK_MESSAGE(difference(signature(tensor), expected["statistics"][buffer].get<std::vector<double>>()) < 1e-8, buffer);

  (logits * wave(logits.sizes(), 0.5)).sum().backward();
  CHECK(difference(signature(input.grad()), expected["clip"].get<std::vector<double>>()) < 1e-5);
  for (const auto& [weight, tensor] : model.weights())
    CHECK_MESSAGE(difference(signature(tensor.grad()), expected["gradients"][weight].get<std::vector<double>>()) < 1e-5, weight);

  model.set_training(false);
  StraightPass evaluation(false);
  CHECK(difference(model.forward(named("clip", clip), evaluation).get("logits"), to_tensor(expected["eval"])) < 1e-5);
  model.set_training(true);
  CHECK(pass.same_again());
}

// Counts the bytes that live tensors of this thread hold.
class Counter : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, std::int64_t bytes, std::size_t, std::size_t, c10::Device) override { live += bytes; }
  bool memoryProfilingEnabled() const override { return true; }
  std::int64_t live = 0;
};

}  // namespace

// Catches: a layer too many or too few, a name or a shape that would keep published weights from loading.
TEST_CASE("published networks: every name and shape, and the published number of weights") {
  const std::vector<std::pair<std::string, std::int64_t>> published = {
      {"r3d_18", 33'371'472}, {"mc3_18", 11'695'440}, {"r2plus1d_18", 31'505'325}, {"slow_r50", 32'454'096}};
  for (const auto& [name, count] : published) {
    CAPTURE(name);
    const auto model = recognizer(part("backbone." + name, {}, file_of(name)), 400);
    std::int64_t weights = 0;
    for (const auto& [kind, tensors] : {std::pair{"weights", model->weights()}, {"statistics", model->statistics()}}) {
      const auto& expected = oracle()["networks"]["names"][name][kind];
      CHECK(tensors.size() == expected.size());
      std::map<std::string, std::vector<std::int64_t>> found;
      for (const auto& [weight, tensor] : tensors) {
        found[weight] = tensor.sizes().vec();
        if (std::string(kind) == "weights") weights += tensor.numel();
      }
      for (const auto& item : expected) {
        const auto weight = item[0].get<std::string>();
        REQUIRE_MESSAGE(found.contains(weight), weight);
        CHECK_MESSAGE(found[weight] == item[1].get<std::vector<std::int64_t>>(), weight);
      }
    }
    CHECK(weights == count);
  }
}

// Catches: a wrong stride, padding, order of layers, an in-place step that destroys what the backward pass needs, statistics
// that move differently; and a segment that captured by reference (it is run again after forward() has returned).
TEST_CASE("outputs, gradients and running statistics are those of PyTorch") {
  const auto clip = wave({2, 3, 8, 20, 18}, 0.1);
  using Numbers = std::vector<std::int64_t>;
  const auto small = [](const std::vector<Setting>& settings) { return recognizer(part("backbone.r3d", settings), 5); };
  SUBCASE("3d") { compare("3d", *small({{"layers", Numbers{2, 1, 1}}, {"width", 4}}), clip); }
  SUBCASE("mc3") { compare("mc3", *small({{"layers", Numbers{1, 2, 1}}, {"width", 4}, {"convolution", "mc3"}}), clip); }
  SUBCASE("2plus1d") { compare("2plus1d", *small({{"layers", Numbers{1, 2, 1}}, {"width", 6}, {"convolution", "2plus1d"}}), clip); }
  SUBCASE("bottleneck") { compare("bottleneck", *small({{"layers", Numbers{2, 1}}, {"width", 4}, {"block", "bottleneck"}}), clip); }
  SUBCASE("strides and stem") {
    compare("strides", *small({{"layers", Numbers{1, 1}}, {"width", 4}, {"stem_channels", 6}, {"stem_kernel", Numbers{5, 3, 3}}, {"stem_stride", Numbers{2, 2, 2}},
                               {"temporal_strides", Numbers{1, 2}}, {"spatial_strides", Numbers{2, 1}}}), clip);
  }
  SUBCASE("slow_r50") { compare("slow_r50", *recognizer(part("backbone.slow_r50", {{"zero_init_residual", false}}), 5), wave({2, 3, 4, 32, 32}, 0.1)); }
}

// Catches: an out-of-place ReLU or sum, which would cost half as much again as the published implementation.
TEST_CASE("r3d_18 keeps no more bytes for the backward pass than PyTorch's own") {
  const auto model = recognizer(part("backbone.r3d_18", {}, "backbone.r3d"), 5);
  model->set_training(true);
  const at::Tensor clip = at::ones({1, 3, 8, 56, 56});
  StraightPass pass;
  const auto counter = std::make_shared<Counter>();
  at::Tensor logits;
  {
    const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, counter);
    logits = model->forward(named("clip", clip), pass).get("logits");
  }
  const auto published = oracle()["networks"]["activations"].get<double>();
  MESSAGE("kept: ", static_cast<double>(counter->live) / 1048576.0, " MiB, PyTorch's own: ", published / 1048576.0, " MiB");
  CHECK(static_cast<double>(counter->live) > 0.5 * published);  // it does count
  CHECK(static_cast<double>(counter->live) <= published + 65536);
}

// Catches: blocks that the plan cannot checkpoint, for no segment marks them.
TEST_CASE("stem and blocks are segments, under the names of their weights") {
  StraightPass pass;
  static_cast<void>(recognizer(part("backbone.r3d", {{"depth", 18}, {"width", 4}}), 3)->forward(named("clip", at::zeros({2, 3, 8, 16, 16})), pass));
  CHECK(pass.segments == std::vector<std::string>{"stem", "layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer3.0", "layer3.1", "layer4.0", "layer4.1"});
}

// Catches: dropout of its own making, whose draws would change with the microbatch; dropout after the layer instead of before.
TEST_CASE("head.linear drops pooled features through the pass") {
  const auto head = build<HeadFactory>(part("head.linear", {{"dropout", 0.25}}), HeadContext{4, class_names(3)});
  const auto weights = head->weights();
  CHECK(weights[0].name == "weight");
  CHECK(weights[1].name == "bias");
  const auto features = wave({2, 4, 3, 2, 2}, 0.3).to(at::kFloat);
  StraightPass pass;
  pass.mask = at::zeros({2, 4});
  pass.mask[0][1] = 4.0 / 3;
  pass.mask[1][2] = 4.0 / 3;
  const at::Tensor logits = head->forward(features, pass);
  CHECK(pass.dropped == std::vector<double>{0.25});
  for (std::int64_t clip = 0; clip < 2; ++clip)
    for (std::int64_t label = 0; label < 3; ++label) {
      const auto kept = clip == 0 ? 1 : 2;
      const double expected = features[clip][kept].mean().item<double>() * 4 / 3 * weights[0].tensor[label][kept].item<double>() + weights[1].tensor[label].item<double>();
      CHECK(logits[clip][label].item<double>() == doctest::Approx(expected).epsilon(1e-5));
    }
}

// Catches: a start that is not the published one: BatchNorm scaled, convolutions by fan in, the head too large.
TEST_CASE("first weights: He et al. for convolutions (fan out), N(0, 0.01) for the head, zeros where asked for") {
  const auto spread = [](const at::Tensor& w) { return w.detach().to(at::kDouble).std().item<double>(); };
  const auto model = recognizer(part("backbone.r3d", {{"depth", 10}, {"width", 32}, {"zero_init_residual", true}}), 200);
  for (const auto& [name, weight] : model->weights()) {
    CAPTURE(name);
    if (weight.dim() == 5) {
      const double fan_out = static_cast<double>(weight.size(0) * weight[0][0].numel());
      CHECK(spread(weight) == doctest::Approx(std::sqrt(2 / fan_out)).epsilon(0.1));
    } else if (name == "fc.weight") {
      CHECK(spread(weight) == doctest::Approx(0.01).epsilon(0.05));
    } else if (name.ends_with("conv2.1.weight")) {
      CHECK(weight.abs().max().item<double>() == 0);
    } else {
      CHECK(at::equal(weight.detach(), name.ends_with("weight") ? at::ones(weight.sizes()) : at::zeros(weight.sizes())));
    }
  }
}

// Catches: a frozen BatchNorm that takes statistics again after the next evaluation.
TEST_CASE("batch norms are counted, and stay frozen") {
  const auto model = recognizer(part("backbone.r3d", {{"depth", 10}, {"width", 4}}), 3);
  CHECK(model->batch_norms(false) == 12);
  CHECK(recognizer(part("backbone.slow_r50"), 3)->batch_norms(false) == 53);
  CHECK(model->batch_norms(true) == 12);
  model->set_training(false);
  model->set_training(true);
  const auto before = model->statistics()[0].tensor.clone();
  StraightPass pass;
  static_cast<void>(model->forward(named("clip", wave({2, 3, 8, 16, 16}, 0).to(at::kFloat)), pass));
  CHECK(at::equal(before, model->statistics()[0].tensor));
}

// Catches: settings that would end in a crash or a silent other network.
TEST_CASE("settings that make no network are refused") {
  using Numbers = std::vector<std::int64_t>;
  CHECK_THROWS_WITH_AS(static_cast<void>(part("backbone.r3d", {{"depth", 19}})), doctest::Contains("no 3D ResNet of depth 19"), Error);
  CHECK_THROWS_AS(static_cast<void>(part("backbone.r3d", {{"stem_kernel", Numbers{4, 7, 7}}})), Error);
  CHECK_THROWS_AS(static_cast<void>(part("backbone.r3d", {{"stem_stride", Numbers{2, 2}}})), Error);
  CHECK_THROWS_AS(static_cast<void>(part("backbone.r3d", {{"layers", Numbers{1, 0}}})), Error);
  CHECK_THROWS_AS(static_cast<void>(part("backbone.r3d", {{"depth", 18}, {"temporal_strides", Numbers{1, 2}}})), Error);
  CHECK_THROWS_WITH_AS(static_cast<void>(build<HeadFactory>(part("head.linear"), HeadContext{4, {}})), doctest::Contains("how many classes"), Error);
  CHECK_THROWS_AS(static_cast<void>(build<HeadFactory>(part("head.linear", {{"classes", 2}}), HeadContext{4, class_names(3)})), Error);
  CHECK_THROWS_WITH_AS(static_cast<void>(build<ModelFactory>(part("model.recognizer"), ModelContext{})), doctest::Contains("backbone"), Error);
}

// Catches: channels taken from the wrong axis; a missing stream that is noticed only at the first step.
TEST_CASE("model.recognizer takes the channels of its stream, and names the streams when its own is missing") {
  const auto backbone = part("backbone.r3d", {{"depth", 10}, {"width", 4}});
  const auto head = part("head.linear");
  Info depth = Info::video(8, 16, 16);
  depth.shape = {8, 16, 16, 1};
  const auto recipe = part("model.recognizer", {{"backbone", backbone}, {"head", head}, {"stream", "depth"}});
  const auto model = build<ModelFactory>(recipe, ModelContext{class_names(2), {{"depth", depth}}});
  CHECK(model->weights()[0].tensor.size(1) == 1);
  StraightPass pass;
  CHECK(model->forward(named("depth", at::zeros({2, 1, 8, 16, 16})), pass).get("logits").sizes() == at::IntArrayRef({2, 2}));
  CHECK_THROWS_WITH_AS(static_cast<void>(build<ModelFactory>(recipe, ModelContext{class_names(2), {{"clip", depth}}})), doctest::Contains("no stream 'depth'"), Error);
  CHECK_THROWS_WITH_AS(static_cast<void>(model->forward(named("depth", at::zeros({2, 4})), pass)), doctest::Contains("2 axes"), Error);
}
