// doctor: the start of a run as numbers, and its errors where the run would have them.
#include <ATen/core/Tensor.h>

#include "framework/train/checkpointing.hpp"
#include "framework/train/evaluation_run.hpp"
#include "framework/train/session.hpp"

namespace sluice {

int run_preflight(const TrainRequest& request, Housekeeping& housekeeping, Reporter& reporter) {
  Session session(request, reporter, {.progress = [&] { housekeeping.progress(); }});
  Preflight& found = *request.preflight;
  found.device = session.device.str();
  found.train = session.dataset->samples(Split::train);
  found.val = session.dataset->samples(Split::val);
  for (const auto& item : session.dataset->failed()) found.failed.emplace_back(item.where, item.why);
  for (const Split split : {Split::train, Split::val}) {
    if (session.dataset->samples(split) == 0) continue;
    const std::int64_t batch = split == Split::train ? session.pipeline.batch.size.value : session.planned.plan.eval_microbatch;
    const SampleBounds bounds = sample_bounds(*session.dataset, session.stages, split, session.budget.samples, batch);
    found.too_large += bounds.too_large;
    found.unusable += bounds.unusable;
  }
  found.steps = session.total_steps;
  found.plan = session.planned.why;
  const auto& pipeline = session.pipeline;
  found.cut = (pipeline.batch.microbatch.value == 0 && session.planned.plan.microbatch < pipeline.batch.size.value) ||
              (pipeline.plan.checkpoint.mode == SegmentChoice::Mode::automatic && session.planned.plan.segments.any());
  found.host_ram = session.budget.host_ram;
  found.smallest = session.budget.smallest;
  found.unused = session.budget.unused;
  for (const auto& tensors : {tensors_of(*session.model), session.optimizer->state()})
    for (const auto& item : tensors) found.checkpoint += item.tensor.nbytes();
  session.check_failures(static_cast<std::int64_t>(session.dataset->failed().size()));
  return 0;
}

}  // namespace sluice
