// What looks at a model without training it: `sluice eval`, `sluice predict`, `sluice check`, `sluice plan` and `sluice doctor`.
#pragma once

#include "framework/report/reporter.hpp"
#include "framework/train/entry.hpp"
#include "framework/train/housekeeping.hpp"

namespace sluice {

// Metrics of a checkpoint over the whole val split, as a table or one JSON object. Returns the exit code.
int run_evaluation(const TrainRequest& request, Housekeeping& housekeeping, Reporter& reporter);

// Labels and probabilities of videos, as a table or one JSON object a line and video. 4 when a video could not be used.
int run_prediction(const TrainRequest& request, Housekeeping& housekeeping, Reporter& reporter);

// All that training does up to the first frame; prints what it will weigh.
int run_check(const TrainRequest& request, Housekeeping& housekeeping, Reporter& reporter);

// The plan, why it is so, and what another budget would change; as tables or one JSON object.
int run_plan(const TrainRequest& request, Housekeeping& housekeeping, Reporter& reporter);

// All that training does up to the first frame, written into request.preflight.
int run_preflight(const TrainRequest& request, Housekeeping& housekeeping, Reporter& reporter);

}  // namespace sluice
