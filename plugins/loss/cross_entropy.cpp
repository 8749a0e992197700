// Cross entropy with label smoothing, class weights and an ignored label; the values are those of PyTorch:
// sum / weight = torch.nn.functional.cross_entropy(..., reduction="mean") over the whole logical batch.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Reduction.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/from_blob.h>
#include <sluice/torch/plugin.hpp>

namespace {

using sluice::Code;
using sluice::Error;

// Labels of a microbatch on the host: int64 [B] or [B, 1].
at::Tensor labels_of(const sluice::Inputs& host, const std::string& stream) {
  const auto& labels = host.get(stream);
  if (!at::isIntegralType(labels.scalar_type(), false) || labels.numel() != labels.size(0))
    throw Error(Code::configuration, "loss.cross_entropy: the stream '" + stream + "' does not hold one whole number a clip");
  return labels.to(at::kLong).reshape({-1}).contiguous();
}

struct Recipe {
  static constexpr std::string_view help = "cross entropy over classes";
  double smoothing = 0;
  std::vector<double> class_weights;
  std::optional<std::int64_t> ignore;
  sluice::Text output = "logits";
  sluice::Text label = "label";
  static constexpr auto fields = sluice::fields(
      sluice::field(&Recipe::smoothing, "smoothing", "part of the target that is spread over all classes", sluice::below(0, 1)),
      sluice::field(&Recipe::class_weights, "class_weights", "weight of each class, in their order; empty: all 1"),
      sluice::field(&Recipe::ignore, "ignore", "clips with this label do not count"),
      sluice::field(&Recipe::output, "output", "output of the model that holds the logits"),
      sluice::field(&Recipe::label, "label", "stream with the class numbers"));

  void check() const {
    for (const auto weight : class_weights)
      if (!(weight >= 0) || weight > 1e30) throw Error(Code::configuration, "class_weights has a number that is not a weight (0 or more)");
  }
  std::unique_ptr<sluice::Loss> build(const sluice::LossContext& context) const;
};

class CrossEntropy : public sluice::Loss {
 public:
  explicit CrossEntropy(const Recipe& recipe) : recipe_(recipe), output_(recipe.output.str()), label_(recipe.label.str()) {}

  sluice::LossValue operator()(const sluice::Outputs& outputs, const sluice::Inputs& inputs, const sluice::Inputs& host) override {
    const auto& raw = outputs.get(output_);
    const auto logits = raw.scalar_type() == at::kDouble ? raw : raw.to(at::kFloat);  // half precision is too coarse for the sum
    const auto target = inputs.get(label_).to(at::kLong).reshape({-1});
    return {at::cross_entropy_loss(logits, target, weights_like(logits), at::Reduction::Sum, recipe_.ignore.value_or(never), recipe_.smoothing), weight_of(host)};
  }

  void check(const sluice::Inputs& host, std::int64_t classes) const override {
    const auto labels = labels_of(host, label_);
    const auto* values = labels.const_data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < labels.numel(); ++i) {
      if (recipe_.ignore == values[i] || (values[i] >= 0 && values[i] < classes)) continue;
      throw Error(Code::data, "label " + std::to_string(values[i]) + " is outside of the " + std::to_string(classes) + " classes (0 to " + std::to_string(classes - 1) + ")",
                  values[i] == -1 ? "the clip has no label; give it one, or write ignore = -1 in [loss]" : "number the classes from 0, or leave head.classes out to take the source's");
    }
  }

 private:
  static constexpr std::int64_t never = std::int64_t{-1} << 62;

  // In double and from the host's labels: the same number whatever the device and the microbatch, and nothing waits for it.
  double weight_of(const sluice::Inputs& host) const {
    const auto labels = labels_of(host, label_);
    const auto* values = labels.const_data_ptr<std::int64_t>();
    double sum = 0;
    for (std::int64_t i = 0; i < labels.numel(); ++i)
      if (recipe_.ignore != values[i]) sum += recipe_.class_weights.empty() ? 1.0 : recipe_.class_weights.at(static_cast<std::size_t>(values[i]));
    return sum;
  }
  std::optional<at::Tensor> weights_like(const at::Tensor& logits) {
    if (recipe_.class_weights.empty()) return std::nullopt;
    if (logits.dim() != 2 || logits.size(1) != static_cast<std::int64_t>(recipe_.class_weights.size()))
      throw Error(Code::configuration, "class_weights has " + std::to_string(recipe_.class_weights.size()) + " numbers, the model " + std::to_string(logits.size(-1)) + " classes");
    if (!weights_.defined() || weights_.options().device() != logits.device() || weights_.scalar_type() != logits.scalar_type())
      weights_ = at::from_blob(recipe_.class_weights.data(), {logits.size(1)}, at::kDouble).to(logits.options(), false, true);
    return weights_;
  }

  Recipe recipe_;
  std::string output_, label_;
  at::Tensor weights_;
};

std::unique_ptr<sluice::Loss> Recipe::build(const sluice::LossContext& context) const {
  check();
  if (!class_weights.empty() && !context.classes.empty() && class_weights.size() != context.classes.size())
    throw Error(Code::configuration, "class_weights has " + std::to_string(class_weights.size()) + " numbers, the source " + std::to_string(context.classes.size()) + " classes",
                "give one weight a class, in the order of the classes");
  return std::make_unique<CrossEntropy>(*this);
}

}  // namespace

SLUICE_LOSS(Recipe, "loss.cross_entropy");
