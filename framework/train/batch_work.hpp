// One batch at a time through the network, as a step or as a part of an evaluation, and what is done where memory runs out.
//
//   BatchWork work(session, {.place = [&] { return BatchWork::Place{steps, fmt::format("step {}", steps + 1)}; }, .say = ...});
//   for (bool done = false; !done;) try {
//     for each batch since the last whole step: work.step(batch, lr); or work.evaluate(evaluation, batch);
//     done = true;
//   } catch (const c10::OutOfMemoryError& error) {
//     if (!work.begin_again(error)) throw work.out_of_memory();
//   }
//
// Whole clips are here while they are at work, so they are tried again with less (recovery.hpp, evaluation.hpp); where nothing is left,
// the changes that would have done are tried on them too, and the Error that is thrown names them. Chunks are gone when memory runs out:
// c10::OutOfMemoryError comes through with the step undone, and a feed has to begin again, once with the same chunks, then with smaller ones;
// and once more with those of the plan, when there is room again.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <c10/util/Exception.h>

#include <sluice/error.hpp>

#include "framework/train/chunk_ladder.hpp"
#include "framework/train/evaluation.hpp"
#include "framework/train/long_step.hpp"
#include "framework/train/out_of_memory.hpp"
#include "framework/train/recovery.hpp"
#include "framework/train/session.hpp"

namespace sluice {

class BatchWork {
 public:
  struct Place {
    std::int64_t number = 0;  // other than before once something was done: chunks are tried once more at each, then made smaller
    std::string text{};       // "step 3", "the evaluation"
  };
  struct Options {
    std::function<Place()> place;
    std::function<void(const std::string&)> say;            // what is tried instead
    std::function<void(const std::string&)> beyond_budget;  // the same, where that takes more than the budget
    std::function<void(const TrainingPlan&)> plan_changed{};  // what is followed from here on, after each change
    std::function<void()> save{};                           // what was learnt, before anything is tried that could end the process
    SegmentObserver* observer = nullptr;
  };
  // Steps need a session that trains. `session` outlives it; its chunks become smaller where they must.
  BatchWork(Session& session, Options options);

  // Nothing where there is more of the batch to come. `go_on` as in Step::run().
  std::optional<StepResult> step(const Batch& batch, double lr, const Step::GoOn& go_on = {});
  // Counts the batch, or throws and has counted nothing of it.
  void evaluate(Evaluation& evaluation, const Batch& batch);

  // After a c10::OutOfMemoryError: whether a new feed is worth a try, of session.feed_options(). Says what changed.
  [[nodiscard]] bool begin_again(const c10::OutOfMemoryError& error);
  // Between two steps: whether the planned chunks are worth a new feed after smaller ones went well for long enough.
  [[nodiscard]] bool may_go_back() const;
  // Takes them from the next feed on. Says so.
  void go_back();
  // Where it is not worth a try: the report, and what would do by an estimate, for there is nothing left to try it on.
  [[nodiscard]] Error out_of_memory() const;

  // Where the run stands below its plan, for a checkpoint; nothing where memory never ran out. A resumed run goes on from there.
  [[nodiscard]] std::optional<LadderState> ladder() const;
  void restore(const LadderState& state);

  [[nodiscard]] LossScaler& scaler() { return long_step_ ? long_step_->scaler() : step_->scaler(); }

 private:
  [[nodiscard]] Recovery::Options recovery_options();
  [[nodiscard]] std::optional<std::int64_t> next_chunk() const;
  [[nodiscard]] static std::uint64_t room();
  void tell_change();
  [[nodiscard]] CappedAllocator::Refusal begin_trials() const;
  [[nodiscard]] Error report(const CappedAllocator::Refusal& refusal, const std::vector<Change>& changes) const;
  [[nodiscard]] Error report_of_card(const c10::OutOfMemoryError& error) const;
  [[nodiscard]] std::vector<Change> open_chunks() const;

  Session& session_;
  Options options_;
  std::optional<Recovery> step_;
  std::optional<LongStep> long_step_;  // where clips go through in chunks
  std::optional<ChunkLadder> chunks_;  // likewise
};

}  // namespace sluice
