// Places in training given in epochs or in steps, for the schedules that fall at some of them. Counted from the start of
// training: a warm-up does not move them.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include <sluice/torch/training.hpp>

namespace sluice::schedule {

// At least 1 step; a part of an epoch is rounded to the nearest step.
inline std::int64_t to_step(double place, bool in_epochs, const ScheduleContext& context) {
  if (in_epochs && context.steps_per_epoch < 1)
    throw Error(Code::configuration, "the schedule counts in epochs, but the length of an epoch is not known", "write unit = \"steps\"");
  const double step = in_epochs ? place * static_cast<double>(context.steps_per_epoch) : place;
  return step >= 9e15 ? std::int64_t{9'000'000'000'000'000} : std::max<std::int64_t>(1, std::llround(step));
}

}  // namespace sluice::schedule
