// Powers of two and nothing measured in time: one file gives one plan.
#include "framework/train/chunk_choice.hpp"

#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/base/strings.hpp"

namespace sluice {

std::vector<std::int64_t> chunks_to_try(const Model& model, const Placed<std::int64_t>& pinned, std::optional<std::int64_t> saved, std::int64_t longest) {
  if (!model.temporal_radius()) {
    if (pinned.value > 0)
      throw Error(Code::configuration, fmt::format("plan.chunk = {}, and this model looks at whole clips", pinned.value),
                  "leave it out; a model that gives encode(), head() and temporal_radius() can be trained in chunks (docs/long-videos.md)", pinned.place.text());
    return {0};
  }
  if (pinned.value == 0 && saved) return {*saved};
  const auto stride = model.temporal_stride();
  if (pinned.value > 0) {
    if (pinned.value >= longest) return {0};
    if (stride > 0 && pinned.value % stride != 0)
      throw Error(Code::configuration, fmt::format("plan.chunk = {} is no multiple of the model's temporal stride, {}", pinned.value, stride),
                  fmt::format("write {}", (pinned.value + stride - 1) / stride * stride), pinned.place.text());
    return {pinned.value};
  }
  constexpr std::int64_t largest = 64, smallest = 16;
  if (longest <= largest) return {0};
  std::vector<std::int64_t> all;
  for (auto frames = largest; frames >= smallest; frames /= 2) {
    const auto whole = stride > 0 ? (frames + stride - 1) / stride * stride : frames;
    if (all.empty() || whole < all.back()) all.push_back(whole);
  }
  return all;
}

void check_chunked(Model& model, const Pipeline& pipeline) {
  const auto& norm = pipeline.model.batch_norm;
  const auto norms = norm.mode == BatchNormConfig::Mode::frozen ? 0 : model.batch_norms(false);
  if (norms > 0)
    throw Error(Code::configuration, fmt::format("the model has {} with statistics over a batch, and clips in chunks go through one piece after another", counted(static_cast<std::uint64_t>(norms), "batch norm layer")),
                "write model.batch_norm = \"frozen\" (the running statistics, for weights that were trained already), or build the model with a norm of each frame by itself, e.g. GroupNorm over [B x T, C, H, W]",
                norm.place.text());
  const auto one_at_a_time = [](const Placed<std::int64_t>& wanted, const char* key) {
    if (wanted.value > 1)
      throw Error(Code::configuration, fmt::format("{} = {}, and clips in chunks go through one at a time", key, wanted.value), fmt::format("leave {} out, or write 1", key), wanted.place.text());
  };
  one_at_a_time(pipeline.batch.microbatch, "batch.microbatch");
  one_at_a_time(pipeline.eval.microbatch, "eval.microbatch");
}

}  // namespace sluice
