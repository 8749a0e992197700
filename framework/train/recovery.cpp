// A step is a transaction (step.hpp): whatever allocation fails, weights, statistics and optimizer are as before it.
#include "framework/train/recovery.hpp"

#include <algorithm>
#include <utility>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "framework/train/capped_allocator.hpp"

namespace sluice {

Recovery::Recovery(Model& model, Loss& loss, Optimizer& optimizer, Options options)
    : options_(std::move(options)), step_(model, loss, optimizer, options_.step), patience_(options_.clean_steps) {
  follow(options_.plan);
}

void Recovery::follow(TrainingPlan plan) {
  now_ = std::move(plan);
  step_.follow(now_.microbatch, now_.checkpointing);
}

// False: there is no rung left.
bool Recovery::step_down(const std::string& why) {
  TrainingPlan next = now_;
  if (options_.limits.checkpoint.mode == SegmentChoice::Mode::automatic && !now_.checkpointing.all) {
    next.checkpointing = {true, {}};
    options_.say(fmt::format("{}: every segment is computed twice from here on", why));
  } else {
    const auto& all = options_.limits.microbatches;
    const auto smaller = std::find_if(all.begin(), all.end(), [&](std::int64_t microbatch) { return microbatch < now_.microbatch; });
    if (smaller == all.end()) return false;
    next.microbatch = *smaller;
    options_.say(fmt::format("{}: {} at a time instead of {} from here on, which changes the last bits", why, next.microbatch, now_.microbatch));
  }
  follow(std::move(next));
  return true;
}

// The last rung first.
void Recovery::step_up() {
  TrainingPlan next = now_;
  if (now_.microbatch < options_.plan.microbatch) {
    const auto& all = options_.limits.microbatches;
    const auto larger = std::find_if(all.rbegin(), all.rend(), [&](std::int64_t microbatch) { return microbatch > now_.microbatch; });
    next.microbatch = larger == all.rend() ? options_.plan.microbatch : std::min(*larger, options_.plan.microbatch);
    options_.say(fmt::format("{} steps went well: {} at a time again", clean_, next.microbatch));
  } else {
    next.checkpointing = options_.plan.checkpointing;
    options_.say(fmt::format("{} steps went well: computed twice again: {}", clean_, text_of(next.checkpointing)));
  }
  follow(std::move(next));
}

StepResult Recovery::run(const Assembler& assembler, std::span<const FinishedSample> batch, double lr, const Step::GoOn& go_on) {
  const bool below = now_.microbatch != options_.plan.microbatch || !(now_.checkpointing == options_.plan.checkpointing);
  const bool climbed = below && clean_ >= patience_;
  if (climbed) {
    step_up();
    clean_ = 0;
  }
  for (bool again = false;; again = true) {
    try {
      StepResult result = step_.run(assembler, batch, lr, go_on);
      ++clean_;
      return result;
    } catch (const c10::OutOfMemoryError& error) {
      ++retries_;
      CappedAllocator::install().trim();
      const std::string why = fmt::format("out of memory, the step is undone ({})", error.what_without_backtrace());
      if (!again) {
        options_.say(why + ": the same once more, with freed memory given back");
      } else if (!step_down(why)) {
        throw;
      }
      if (climbed && !again) patience_ *= 2;  // what was taken back did not last
      clean_ = 0;
    }
  }
}

}  // namespace sluice
