// What the metrics of classification read: scores of a batch beside its labels. A clip whose label is negative does not count.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include <ATen/core/Tensor.h>

#include <sluice/torch/plugin.hpp>

namespace sluice::metric {

// Where they stand; every metric has these two fields.
struct Streams {
  Text output = "logits";
  Text label = "label";
  static constexpr auto stream_fields = sluice::fields(field(&Streams::output, "output", "output of the model that holds the scores, one a class"),
                                                       field(&Streams::label, "label", "stream with the class numbers"));
};

// Calls f(scores of one clip, its label) for each clip that counts. Any order-preserving scores will do: logits, probabilities.
template <class F> void for_each_clip(const Streams& streams, const Outputs& outputs, const Inputs& host, F&& f) {
  const at::Tensor scores = outputs.get(streams.output).to(at::kDouble).contiguous();
  const at::Tensor labels = host.get(streams.label).to(at::kLong).reshape({-1}).contiguous();
  if (scores.dim() != 2 || scores.size(0) != labels.size(0))
    throw Error(Code::configuration, "a metric wants scores [clips, classes] and one label a clip; it got " + std::to_string(labels.size(0)) + " labels for scores with " +
                                         std::to_string(scores.dim()) + " axes and " + std::to_string(scores.dim() > 0 ? scores.size(0) : 0) + " clips");
  const auto classes = scores.size(1);
  for (std::int64_t i = 0; i < scores.size(0); ++i) {
    const auto label = labels.const_data_ptr<std::int64_t>()[i];
    if (label < 0) continue;
    if (label >= classes)
      throw Error(Code::data, "label " + std::to_string(label) + " is outside of the " + std::to_string(classes) + " classes (0 to " + std::to_string(classes - 1) + ")");
    f(std::span(scores.const_data_ptr<double>() + i * classes, static_cast<std::size_t>(classes)), label);
  }
}

// How many classes score at least as well as this one and come before it: 0 is the best. Of equals the lower number comes
// first; a score that is no number beats nobody.
inline std::int64_t rank_of(std::span<const double> scores, std::int64_t label) {
  const auto own = scores[static_cast<std::size_t>(label)];
  std::int64_t before = 0;
  for (std::int64_t i = 0; i < std::ssize(scores); ++i) {
    const auto other = scores[static_cast<std::size_t>(i)];
    const bool behind = other != other ? own == own || i > label : own > other || (own == other && i > label);
    if (i != label && !behind) ++before;
  }
  return before;
}

inline std::int64_t best_of(std::span<const double> scores) {
  std::int64_t best = 0;
  for (std::int64_t i = 1; i < std::ssize(scores); ++i)
    if (const auto a = scores[static_cast<std::size_t>(i)], b = scores[static_cast<std::size_t>(best)]; a > b || (b != b && a == a)) best = i;
  return best;
}

// `other` as the same kind of metric; anything else is a mistake of the caller.
template <class T> const T& same_kind(const Metric& other) {
  if (const auto* same = dynamic_cast<const T*>(&other)) return *same;
  throw Error(Code::plugin, "metrics of different kinds cannot be merged");
}

}  // namespace sluice::metric
