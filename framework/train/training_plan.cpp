// Microbatches change nothing that is learnt; where they would, the user chooses.
#include "framework/train/training_plan.hpp"

#include <algorithm>

#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/base/strings.hpp"

namespace sluice {

std::string text_of(const Segments& segments) {
  if (segments.all) return "every segment";
  return segments.names.empty() ? "nothing" : join({segments.names.begin(), segments.names.end()}, ", ");
}

std::set<std::string, std::less<>> names_of(const Segments& segments, const std::vector<std::string>& paths) {
  if (!segments.all) return segments.names;
  std::set<std::string, std::less<>> names;
  for (const auto& path : paths)
    if (path.find('/') == std::string::npos && path != whole_model) names.insert(path);
  return names;
}

namespace {

// As even as the number of passes allows: 16 clips in three passes are 6, 6 and 4. Each at least a sixteenth below the one before.
std::vector<std::int64_t> even_microbatches(std::int64_t size) {
  std::vector<std::int64_t> out;
  for (std::int64_t at = size; at >= 1;) {
    out.push_back(at);
    if (at == 1) break;
    const std::int64_t below = at - std::max<std::int64_t>(1, at / 16);
    const std::int64_t passes = (size + below - 1) / below;
    at = (size + passes - 1) / passes;
  }
  return out;
}

}  // namespace

PlanLimits plan_limits(const Pipeline& pipeline, std::int64_t batch_norms, std::optional<std::int64_t> saved) {
  const std::int64_t size = pipeline.batch.size.value;
  const auto& wanted = pipeline.batch.microbatch;
  const auto& norm = pipeline.model.batch_norm;
  const std::int64_t pinned = std::min(size, wanted.value == 0 ? saved.value_or(0) : wanted.value);
  PlanLimits limits;
  limits.batch = size;
  limits.checkpoint = pipeline.plan.checkpoint;
  limits.offload = pipeline.plan.offload;
  limits.eval_microbatch = pipeline.eval.microbatch.value;
  limits.to_stay_whole = fmt::format("batch.microbatch = {}", size);
  if (batch_norms > 0 && norm.mode == BatchNormConfig::Mode::batch && pinned != 0 && pinned < size)
    throw Error(Code::configuration,
                fmt::format("the model has {} with statistics over the whole batch of {}; microbatches of {} would change what is learnt",
                            counted(static_cast<std::uint64_t>(batch_norms), "batch norm layer"), counted(static_cast<std::uint64_t>(size), "clip"), pinned),
                fmt::format("choose one: batch.microbatch = {} (or \"auto\"): the batch stays whole;  model.batch_norm = {{ group = {} }}: statistics over groups of {};  "
                            "model.batch_norm = \"frozen\": the running statistics, for weights that were trained already",
                            size, pinned, counted(static_cast<std::uint64_t>(pinned), "clip")),
                wanted.place.text());
  if (batch_norms > 0 && norm.mode == BatchNormConfig::Mode::group) {
    if (norm.group > size)
      throw Error(Code::configuration, fmt::format("model.batch_norm groups {} clips, and a batch has {}", norm.group, size),
                  fmt::format("write {{ group = {} }} or less, or a larger batch.size", size), norm.place.text());
    if (wanted.value != 0 && wanted.value != norm.group)
      throw Error(Code::configuration, fmt::format("batch.microbatch = {} and model.batch_norm = {{ group = {} }} exclude each other: the group is the microbatch", wanted.value, norm.group),
                  fmt::format("write batch.microbatch = {} or \"auto\"", norm.group), wanted.place.text());
    limits.microbatches = {norm.group};
    limits.to_stay_whole = "model.batch_norm = \"batch\"";
  } else if (batch_norms > 0 && norm.mode == BatchNormConfig::Mode::batch) {
    limits.microbatches = {size};
  } else if (pinned != 0) {
    limits.microbatches = {pinned};
    // Resumed, and nobody pins it: a step that runs out of memory may be cut further, as in the run that was saved.
    if (wanted.value == 0)
      for (const auto microbatch : even_microbatches(size))
        if (microbatch < pinned) limits.smaller.push_back(microbatch);
  } else {
    limits.microbatches = even_microbatches(size);
  }
  return limits;
}

}  // namespace sluice
