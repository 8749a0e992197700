// M1 of the promises: however a batch is cut, and whatever of it is computed twice, its gradient is that of one backward pass over the
// whole batch.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/ctc_loss.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "fakes.hpp"
#include "framework/train/pass.hpp"
#include "framework/train/step.hpp"
#include "framework/train/threads.hpp"
#include "tests/models/training_half.hpp"

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
  set_compute_threads(1);  // kernels this small gain nothing by a second
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
  if (a.size() != b.size()) return 1;
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

// From here on: clips of differing lengths, padded to the longest of their logical batch, with a class, a transcript, a curve over their
// frames and a weight each; what is not there does not count.
namespace {

constexpr std::int64_t longest = 6, tokens = 4;  // token 0 is CTC's blank

template <class T> Array make_series(DType dtype, const std::vector<T>& values) {
  Array array = make_array(dtype, {static_cast<std::int64_t>(values.size())}, "T");
  std::copy(values.begin(), values.end(), array.values<T>().begin());
  return array;
}

std::vector<std::pair<std::string, Info>> streams_of_lengths() {
  auto streams = clip_and_label(longest, size, size);
  streams.front().second.varying = 1;
  Info transcript, curve, importance;
  transcript.dtype = DType::i64, transcript.shape = {2}, transcript.axes = "T", transcript.varying = 1;
  curve.dtype = DType::f64, curve.shape = {longest}, curve.axes = "T", curve.varying = 1;
  importance.dtype = DType::f64;
  streams.insert(streams.end(), {{"transcript", transcript}, {"curve", curve}, {"importance", importance}});
  return streams;
}

std::vector<FinishedSample> clips_of_lengths(std::int64_t n, std::mt19937& random) {
  const auto below = [&](std::uint32_t end) { return static_cast<std::int64_t>(random() % end); };
  std::vector<FinishedSample> out;
  for (std::int64_t i = 0; i < n; ++i) {
    const bool counts = i == 0;  // whatever the draw: or the batch might weigh nothing
    const std::int64_t length = counts ? 3 : 1 + below(longest);
    FinishedSample sample = make_sample(i, make_clip(length, size, size, random()), counts || below(3) != 0 ? below(3) : -1);
    std::vector<std::int64_t> transcript(static_cast<std::size_t>(counts ? 1 : below(3)));
    for (auto& token : transcript) token = 1 + below(tokens - 1);
    std::vector<double> curve(static_cast<std::size_t>(length));
    for (auto& value : curve) value = static_cast<double>(below(1000)) / 500 - 1;
    Array importance = make_array(DType::f64, {});
    importance.values<double>()[0] = counts || below(4) != 0 ? 0.25 + static_cast<double>(below(1000)) / 250 : 0;
    sample.arrays.emplace_back("transcript", make_series(DType::i64, transcript));
    sample.arrays.emplace_back("curve", make_series(DType::f64, curve));
    sample.arrays.emplace_back("importance", std::move(importance));
    out.push_back(std::move(sample));
  }
  return out;
}

std::int64_t label_of(const FinishedSample& sample) {
  const auto found = std::find_if(sample.arrays.begin(), sample.arrays.end(), [](const auto& item) { return item.first == "label"; });
  return *reinterpret_cast<const std::int64_t*>(found->second.data());
}

// [clips, frames]: 1 where the clip has a frame.
at::Tensor valid_frames(const Inputs& inputs, const std::string& stream, at::ScalarType type) {
  const at::Tensor lengths = inputs.get(stream + ".lengths");
  return at::arange(inputs.get(stream).size(stream == "clip" ? 2 : 1), at::kLong).unsqueeze(0).lt(lengths.unsqueeze(1)).to(type);
}

// A class, a token for each frame and a number for each frame, from frames that are there.
class SequenceModel final : public Model {
 public:
  explicit SequenceModel(double dropout) : dropout_(dropout) {
    at::manual_seed(5);
    const auto make = [](std::vector<std::int64_t> sizes) { return at::randn(sizes, at::kDouble).mul_(0.3).set_requires_grad(true); };
    conv_ = make({6, 3, 3, 3, 3}), bias_ = make({6}), class_ = make({3, 6}), token_ = make({tokens, 6}), curve_ = make({1, 6});
  }
  std::vector<NamedTensor> weights() override { return {{"conv.weight", conv_}, {"conv.bias", bias_}, {"class", class_}, {"token", token_}, {"curve", curve_}}; }
  std::vector<NamedTensor> statistics() override { return {}; }
  void set_training(bool) override {}
  void move_to(at::Device) override {}
  std::int64_t batch_norms(bool) override { return 0; }
  Outputs forward(const Inputs& inputs, Pass& pass) override {
    const at::Tensor valid = valid_frames(inputs, "clip", at::kDouble);
    const at::Tensor frames = pass.segment("conv", [this, &pass](const at::Tensor& x) {
      return pass.dropout(at::conv3d(x, conv_, bias_, 1, 1).relu(), dropout_).mean({3, 4}).transpose(1, 2);  // [B, T, C]
    }, inputs.get("clip").to(at::kDouble));
    const at::Tensor pooled = (frames * valid.unsqueeze(2)).sum(1) / valid.sum(1, true);
    Outputs out;
    out.set("logits", at::linear(pooled, class_));
    out.set("tokens", at::linear(frames, token_));
    out.set("curve", at::linear(frames, curve_).squeeze(2));
    return out;
  }

 private:
  double dropout_;
  at::Tensor conv_, bias_, class_, token_, curve_;
};

// Connectionist temporal classification (Graves et al. 2006), averaged over all tokens of the batch; a clip without a transcript does not count.
class SequenceLoss final : public Loss {
 public:
  LossValue operator()(const Outputs& outputs, const Inputs&, const Inputs& host) override {
    const auto list = [](const at::Tensor& lengths) { return std::vector<std::int64_t>(lengths.const_data_ptr<std::int64_t>(), lengths.const_data_ptr<std::int64_t>() + lengths.numel()); };
    const at::Tensor of_transcript = host.get("transcript.lengths");
    const at::Tensor log_p = at::log_softmax(outputs.get("tokens"), 2).transpose(0, 1);
    const at::Tensor each = at::ctc_loss(log_p, host.get("transcript"), list(host.get("curve.lengths")), list(of_transcript), 0, at::Reduction::None, true);
    return {(each * of_transcript.gt(0)).sum(), of_transcript.sum().item<double>()};
  }
};

// Squared error over the frames that are there, each as important as its clip.
class CurveLoss final : public Loss {
 public:
  LossValue operator()(const Outputs& outputs, const Inputs& inputs, const Inputs& host) override {
    const auto weight = [](const Inputs& from) { return from.get("importance").unsqueeze(1) * valid_frames(from, "curve", at::kDouble); };
    return {((outputs.get("curve") - inputs.get("curve")).square() * weight(inputs)).sum(), weight(host).sum().item<double>()};
  }
};

// All of them at once, averaged over the clips.
class SumOfLosses final : public Loss {
 public:
  explicit SumOfLosses(std::vector<std::unique_ptr<Loss>> parts) : parts_(std::move(parts)) {}
  LossValue operator()(const Outputs& outputs, const Inputs& inputs, const Inputs& host) override {
    LossValue value;
    for (const auto& part : parts_) {
      const at::Tensor sum = (*part)(outputs, inputs, host).sum;
      value.sum = value.sum.defined() ? value.sum + sum : sum;
    }
    value.weight = static_cast<double>(host.get("label").size(0));
    return value;
  }

 private:
  std::vector<std::unique_ptr<Loss>> parts_;
};

// The mistake of averaging each microbatch by itself.
class MeanOfMeans final : public Loss {
 public:
  explicit MeanOfMeans(std::unique_ptr<Loss> loss) : loss_(std::move(loss)) {}
  LossValue operator()(const Outputs& outputs, const Inputs& inputs, const Inputs& host) override {
    const LossValue value = (*loss_)(outputs, inputs, host);
    return value.weight > 0 ? LossValue{value.sum / value.weight, 1} : value;
  }

 private:
  std::unique_ptr<Loss> loss_;
};

struct NamedLoss {
  std::string name;
  std::unique_ptr<Loss> loss;
};

std::vector<NamedLoss> every_loss() {
  const auto cross_entropy = [] {
    return testing::build<LossFactory>(testing::part("loss.cross_entropy", {{"ignore", -1}, {"smoothing", 0.1}, {"class_weights", std::vector<double>{0.2, 1.0, 3.5}}}), LossContext{});
  };
  std::vector<std::unique_ptr<Loss>> parts;
  parts.push_back(cross_entropy());
  parts.push_back(std::make_unique<SequenceLoss>());
  parts.push_back(std::make_unique<CurveLoss>());
  std::vector<NamedLoss> all;
  all.push_back({"loss.cross_entropy", cross_entropy()});
  all.push_back({"CTC", std::make_unique<SequenceLoss>()});
  all.push_back({"curve", std::make_unique<CurveLoss>()});
  all.push_back({"the sum of all three", std::make_unique<SumOfLosses>(std::move(parts))});
  return all;
}

enum class Padding { to_the_batch, to_the_microbatch, none };

class Lengths {
 public:
  explicit Lengths(double dropout) : model_(dropout) {
    set_compute_threads(1);
    optimizer_.prepare(model_.weights());
  }

  // By the trainer.
  std::vector<at::Tensor> gradient(Loss& loss, const std::vector<FinishedSample>& batch, const std::vector<std::int64_t>& partition, const SegmentPlan& checkpointing, Padding padding = Padding::to_the_batch) {
    const auto extents = assembler_.extents(batch);
    const std::span<const FinishedSample> all = batch;
    std::vector<std::function<Microbatch()>> microbatches;
    std::size_t at = 0;
    for (const auto clips : partition) {
      const auto part = all.subspan(at, static_cast<std::size_t>(clips));
      microbatches.emplace_back([this, &extents, part, padding] { return assembler_.assemble(part, padding == Padding::to_the_batch ? extents : assembler_.extents(part)); });
      at += static_cast<std::size_t>(clips);
    }
    Step step(model_, loss, optimizer_, {1, 0, 3, checkpointing});
    StepResult result = step.accumulate(microbatches);
    step.commit(result, 0.0);
    return optimizer_.gradients;
  }

  // The oracle: the same sums and weights, one division, no trainer.
  std::vector<at::Tensor> expected(Loss& loss, const std::vector<FinishedSample>& batch, Padding padding) {
    const std::span<const FinishedSample> all = batch;
    const std::size_t each = padding == Padding::none ? 1 : batch.size();
    at::Tensor sum;
    double weight = 0;
    for (std::size_t at = 0; at < batch.size(); at += each) {
      const auto part = all.subspan(at, each);
      const Microbatch microbatch = assembler_.assemble(part, assembler_.extents(part));
      MicrobatchPass pass(true, microbatch.keys);
      const LossValue value = loss(model_.forward(microbatch.inputs, pass), microbatch.inputs, microbatch.host);
      weight += value.weight;
      if (value.weight > 0) sum = sum.defined() ? sum + value.sum : value.sum;
    }
    (sum / weight).backward();
    std::vector<at::Tensor> out;
    for (auto& item : model_.weights()) {
      if (item.tensor.grad().defined()) out.push_back(item.tensor.grad());
      item.tensor.mutable_grad().reset();
    }
    return out;
  }

 private:
  SequenceModel model_;
  TinySgd optimizer_;
  Assembler assembler_{{streams_of_lengths(), {{0.5, 0.5, 0.5}, {0.25, 0.25, 0.25}, "auto"}, at::kCPU, false}};
};

}  // namespace

// Mistakes caught: a mask or a length that follows the place in the microbatch, a weight of clips that counts padded frames, padding to the
// longest of the microbatch, labels that are ignored in one microbatch and counted in the division.
TEST_CASE("200 random partitions of clips of differing lengths: cross entropy with ignored labels, CTC, a masked regression, all at once") {
  std::mt19937 random(21);
  auto losses = every_loss();
  std::vector<double> worst(losses.size(), 0);
  Lengths net(0.3);
  std::int64_t weightless = 0;
  for (int trial = 0; trial < 200; ++trial) {
    CAPTURE(trial);
    const auto n = 2 + static_cast<std::int64_t>(random() % 9);
    const auto batch = clips_of_lengths(n, random);
    const auto partition = partition_of(n, random);
    const SegmentPlan checkpointing{random() % 2 == 0, {}};
    std::size_t at = 0;
    for (const auto clips : partition) {  // microbatches in which no label counts
      const std::span<const FinishedSample> part(batch.data() + at, static_cast<std::size_t>(clips));
      weightless += std::all_of(part.begin(), part.end(), [](const FinishedSample& sample) { return label_of(sample) == -1; });
      at += static_cast<std::size_t>(clips);
    }
    for (std::size_t i = 0; i < losses.size(); ++i) {
      CAPTURE(losses[i].name);
      const double off = difference(net.gradient(*losses[i].loss, batch, partition, checkpointing), net.expected(*losses[i].loss, batch, Padding::to_the_batch));
      CHECK(off <= 1e-12);
      worst[i] = std::max(worst[i], off);
    }
  }
  CHECK(weightless > 20);
  for (std::size_t i = 0; i < losses.size(); ++i) MESSAGE(losses[i].name, ": worst in fp64 ", worst[i]);
  MESSAGE(weightless, " microbatches without a label that counts");
}

// Mistake caught: padding that is learnt from. Without dropout, whose draws follow the place in the padded clip, a batch is worth what its
// clips are worth one by one without any padding.
TEST_CASE("what is padded does not count") {
  std::mt19937 random(22);
  auto losses = every_loss();
  Lengths net(0);
  double worst = 0;
  for (int trial = 0; trial < 40; ++trial) {
    CAPTURE(trial);
    const auto n = 2 + static_cast<std::int64_t>(random() % 9);
    const auto batch = clips_of_lengths(n, random);
    const auto partition = partition_of(n, random);
    for (const auto& [name, loss] : losses) {
      CAPTURE(name);
      const double off = difference(net.gradient(*loss, batch, partition, {trial % 2 == 0, {}}), net.expected(*loss, batch, Padding::none));
      CHECK(off <= 1e-12);
      worst = std::max(worst, off);
    }
  }
  MESSAGE("worst in fp64 against clips one by one: ", worst);
}

// Planted defects: a mean of means, and a microbatch that is padded to its own longest clip.
TEST_CASE("averaging each microbatch by itself, or padding it by itself, is far off") {
  std::mt19937 random(23);
  Lengths net(0.3);
  auto losses = every_loss();
  for (std::size_t i = 0; i < losses.size(); ++i) {
    CAPTURE(losses[i].name);
    double means = 0, padded = 0;
    for (int trial = 0; trial < 5; ++trial) {
      const auto batch = clips_of_lengths(7, random);
      const auto expected = net.expected(*losses[i].loss, batch, Padding::to_the_batch);
      MeanOfMeans mean(std::move(every_loss()[i].loss));
      means = std::max(means, difference(net.gradient(mean, batch, {4, 1, 2}, {}), expected));
      padded = std::max(padded, difference(net.gradient(*losses[i].loss, batch, {4, 1, 2}, {}, Padding::to_the_microbatch), expected));
    }
    CHECK(means > 1e-2);
    CHECK(padded > 1e-2);
  }
}
