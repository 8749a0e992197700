// Microbatches change nothing that is learnt; where they would, the user chooses.
#include "framework/train/cut.hpp"

#include <algorithm>

#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/base/strings.hpp"

namespace sluice {

Cut choose_cut(const Pipeline& pipeline, std::int64_t batch_norms) {
  const std::int64_t size = pipeline.batch.size.value;
  const auto& wanted = pipeline.batch.microbatch;
  const auto& norm = pipeline.model.batch_norm;
  Cut cut;
  cut.microbatch = std::min(size, wanted.value == 0 ? size : wanted.value);
  if (batch_norms > 0 && norm.mode == BatchNormConfig::Mode::batch && cut.microbatch < size)
    throw Error(Code::configuration,
                fmt::format("the model has {} with statistics over the whole batch of {}; microbatches of {} would change what is learnt",
                            counted(static_cast<std::uint64_t>(batch_norms), "batch norm layer"), counted(static_cast<std::uint64_t>(size), "clip"), cut.microbatch),
                fmt::format("choose one: batch.microbatch = {} (or \"auto\"): the batch stays whole;  model.batch_norm = {{ group = {} }}: statistics over groups of {};  "
                            "model.batch_norm = \"frozen\": the running statistics, for weights that were trained already",
                            size, cut.microbatch, counted(static_cast<std::uint64_t>(cut.microbatch), "clip")),
                wanted.place.text());
  if (batch_norms > 0 && norm.mode == BatchNormConfig::Mode::group) {
    if (norm.group > size)
      throw Error(Code::configuration, fmt::format("model.batch_norm groups {} clips, and a batch has {}", norm.group, size),
                  fmt::format("write {{ group = {} }} or less, or a larger batch.size", size), norm.place.text());
    if (wanted.value != 0 && wanted.value != norm.group)
      throw Error(Code::configuration, fmt::format("batch.microbatch = {} and model.batch_norm = {{ group = {} }} exclude each other: the group is the microbatch", wanted.value, norm.group),
                  fmt::format("write batch.microbatch = {} or \"auto\"", norm.group), wanted.place.text());
    cut.microbatch = norm.group;
  }
  cut.eval_microbatch = pipeline.eval.microbatch.value == 0 ? cut.microbatch : pipeline.eval.microbatch.value;
  return cut;
}

}  // namespace sluice
