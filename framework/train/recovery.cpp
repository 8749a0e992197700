// A step is a transaction (step.hpp): whatever allocation fails, weights, statistics and optimizer are as before it.
#include "framework/train/recovery.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "framework/base/strings.hpp"
#include "framework/train/capped_allocator.hpp"

namespace sluice {

Recovery::Recovery(Model& model, Loss& loss, Optimizer& optimizer, Options options)
    : options_(std::move(options)), step_(model, loss, optimizer, options_.step), patience_(options_.clean_steps) {
  follow(options_.plan);
}

void Recovery::follow(TrainingPlan plan) {
  now_ = std::move(plan);
  step_.follow(now_.microbatch, now_.segments);
}

void Recovery::change(TrainingPlan plan) {
  follow(std::move(plan));
  if (options_.changed) options_.changed(now_);
}

// The rungs below the present plan, from the top.
std::vector<TrainingPlan> Recovery::below() const {
  std::vector<TrainingPlan> plans;
  TrainingPlan next = now_;
  if (options_.limits.checkpoint.mode == SegmentChoice::Mode::automatic && !now_.segments.twice.all) {
    next.segments.twice = {true, {}};  // what is offloaded stays so
    plans.push_back(next);
  }
  for (const auto* list : {&options_.limits.microbatches, &options_.limits.smaller})
    for (const auto microbatch : *list)
      if (microbatch < next.microbatch) {
        next.microbatch = microbatch;
        plans.push_back(next);
      }
  return plans;
}

// The last rung first.
TrainingPlan Recovery::above() const {
  TrainingPlan next = now_;
  if (now_.microbatch == options_.plan.microbatch) {
    next.segments = options_.plan.segments;
    return next;
  }
  next.microbatch = options_.plan.microbatch;
  for (const auto* list : {&options_.limits.microbatches, &options_.limits.smaller})
    for (const auto microbatch : *list)
      if (microbatch > now_.microbatch) next.microbatch = std::min(next.microbatch, microbatch);
  return next;
}

bool Recovery::may_fit(const TrainingPlan& plan) const {
  const auto now = CappedAllocator::install().counters();
  if (options_.model == nullptr || now.cap == 0) return true;
  const auto names = [paths = options_.model->segments()](const Segments& segments) { return names_of(segments, paths); };
  const auto peak = [&](const TrainingPlan& of) { return options_.model->peak(of.microbatch, names(of.segments.twice), names(of.segments.offload)); };
  return peak(plan) <= now.cap - std::min(now.cap, now.live);
}

// False: there is no rung left.
bool Recovery::step_down(const std::string& why) {
  const auto plans = below();
  if (plans.empty()) return false;
  auto next = plans.begin();
  // What failed although the model saw room for it needs more than it knows: then rung by rung.
  if (!may_fit(now_))
    while (std::next(next) != plans.end() && !may_fit(*next)) ++next;
  std::vector<std::string> changes;
  if (!(next->segments == now_.segments)) changes.emplace_back(now_.segments.offload.any() ? "every segment that is not offloaded is computed twice from here on" : "every segment is computed twice from here on");
  if (next->microbatch != now_.microbatch) changes.push_back(fmt::format("{} at a time instead of {} from here on, which changes the last bits", next->microbatch, now_.microbatch));
  options_.say(fmt::format("{}: {}", why, join(changes, ", and ")));
  change(*next);
  return true;
}

void Recovery::step_up() {
  TrainingPlan next = above();
  if (next.microbatch != now_.microbatch) options_.say(fmt::format("{} steps went well: {} at a time again", clean_, next.microbatch));
  else options_.say(fmt::format("{} steps went well: computed twice again: {}", clean_, text_of(next.segments.twice)));
  change(std::move(next));
}

std::optional<LadderState> Recovery::state() const {
  if (!reduced() && patience_ == options_.clean_steps) return std::nullopt;
  LadderState state;
  state.microbatch = now_.microbatch;
  state.every_segment_twice = now_.segments.twice.all && !options_.plan.segments.twice.all;
  state.clean = reduced() ? clean_ : 0;
  state.patience = patience_;
  return state;
}

bool Recovery::restore(const LadderState& state) {
  bool allowed = state.microbatch == options_.plan.microbatch;
  for (const auto* list : {&options_.limits.microbatches, &options_.limits.smaller})
    allowed = allowed || (state.microbatch < options_.plan.microbatch && std::find(list->begin(), list->end(), state.microbatch) != list->end());
  if (!allowed || state.chunk != 0 || (state.every_segment_twice && options_.limits.checkpoint.mode != SegmentChoice::Mode::automatic)) return false;
  TrainingPlan plan = options_.plan;
  plan.microbatch = state.microbatch;
  if (state.every_segment_twice) plan.segments.twice = {true, {}};
  clean_ = std::max<std::int64_t>(state.clean, 0);
  patience_ = std::max(state.patience, options_.clean_steps);
  follow(std::move(plan));
  return true;
}

StepResult Recovery::run(const Assembler& assembler, std::span<const FinishedSample> batch, double lr, const Step::GoOn& go_on) {
  const bool climbed = reduced() && clean_ >= patience_ && may_fit(above());
  if (climbed) {
    step_up();
    clean_ = 0;
  }
  for (bool again = false;; again = true) {
    try {
      StepResult result = telling_out_of_memory([&] { return step_.run(assembler, batch, lr, go_on); });
      ++clean_;
      return result;
    } catch (const c10::OutOfMemoryError& error) {
      ++retries_;
      CappedAllocator::install().trim();
      const std::string why = fmt::format("out of memory, the step is undone ({})", error.what_without_backtrace());
      if (!again && may_fit(now_)) {
        options_.say(why + ": the same once more, with freed memory given back");
      } else if (!step_down(why)) {
        throw;
      }
      if (climbed && !again) patience_ *= 2;  // what was taken back did not last
      clean_ = 0;
    }
  }
}

std::vector<Change> Recovery::changes_that_fit(const Assembler& assembler, std::span<const FinishedSample> batch, const std::function<Change(std::uint64_t)>& more_memory) {
  std::vector<Change> found;
  const auto rehearsal = [&](std::int64_t microbatch, const SegmentPlan& segments) {
    return [&, microbatch, segments] { step_.rehearse(assembler, batch, microbatch, segments); };
  };
  const auto pinned = options_.limits.checkpoint.mode;
  if ((pinned == SegmentChoice::Mode::none || pinned == SegmentChoice::Mode::named) && fits(rehearsal(now_.microbatch, {{true, {}}, now_.segments.offload})))
    found.push_back({"plan.checkpoint", "\"auto\"", "learns the same bit for bit: with every segment computed twice this batch went through"});
  if (found.empty())
    for (const auto microbatch : options_.if_open)
      if (microbatch < now_.microbatch && fits(rehearsal(microbatch, now_.segments))) {
        found.push_back({"batch.microbatch", "\"auto\"", fmt::format("learns the same up to rounding: {} at a time this batch went through", microbatch)});
        break;
      }
  if (const auto peak = peak_of(rehearsal(now_.microbatch, now_.segments)))
    found.push_back(more_memory(*peak));
  return found;
}

}  // namespace sluice
