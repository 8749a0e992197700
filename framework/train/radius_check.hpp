// Whether an encoder sees what its model declares: a wrong radius would give a wrong gradient, and nobody would notice.
#pragma once

#include <sluice/torch/network.hpp>

#include "framework/flow/chunks.hpp"
#include "framework/train/assemble.hpp"

namespace sluice {

// Encodes a short random clip: frames are changed one at a time to see which features change with them, and the clip in chunks has to
// give the features of the whole. Weights, statistics and the default random numbers are as before.
// Throws Error(Code::plugin) with what was declared and what was seen: also where features depend on the whole clip (a norm over
// time), on the batch's statistics, on the place of a frame in its chunk, or on random numbers beside the Pass.
void check_radius(Model& model, const Assembler& assembler, const Chunking& chunking);

}  // namespace sluice
