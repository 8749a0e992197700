// How a logical batch is cut into microbatches: what the pipeline says, and what batch norm allows.
#pragma once

#include <cstdint>

#include "framework/config/pipeline.hpp"

namespace sluice {

struct Cut {
  std::int64_t microbatch = 1;
  std::int64_t eval_microbatch = 1;
};

// `batch_norms`: layers that take statistics over the batch (those that are frozen do not count). They are part of the result:
// with "batch" the microbatch is the whole logical batch, with { group = N } it is N. Throws Error(Code::configuration) with the
// three choices where the pipeline wants something else.
[[nodiscard]] Cut choose_cut(const Pipeline& pipeline, std::int64_t batch_norms);

}  // namespace sluice
