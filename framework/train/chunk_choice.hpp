// How many frames of a long clip go through the encoder at once.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <sluice/torch/network.hpp>

#include "framework/config/pipeline.hpp"

namespace sluice {

// Frames of a chunk, the first choice first; 0: clips go through whole. With "auto" a clip of up to 64 frames stays whole, and a longer
// one is cut into the first of 64, 32 and 16 frames that fits the budget. `saved`: of the run that is resumed. `longest`: frames of the
// longest clip. Throws Error(Code::configuration) where the pipeline pins what the model cannot do.
[[nodiscard]] std::vector<std::int64_t> chunks_to_try(const Model& model, const Placed<std::int64_t>& pinned, std::optional<std::int64_t> saved, std::int64_t longest);

// What cannot be had where clips go through in chunks, one after the other: statistics over a batch, microbatches of several clips.
void check_chunked(Model& model, const Pipeline& pipeline);

}  // namespace sluice
