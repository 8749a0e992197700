// The loop of `sluice train`: batches, steps, evaluations, checkpoints, and how it ends.
#pragma once

#include "framework/report/reporter.hpp"
#include "framework/train/entry.hpp"
#include "framework/train/housekeeping.hpp"

namespace sluice {

// Returns the exit code: 0, or 130 and 143 after a signal.
int run_training(const TrainRequest& request, Housekeeping& housekeeping, Reporter& reporter);

}  // namespace sluice
