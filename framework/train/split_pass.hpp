// Every sample of val once through an evaluation. What runs out of memory in chunks goes on at its clip, with a feed of smaller ones.
//
//   SplitPass pass(session, housekeeping, reporter, SplitPass::OnSignal::end_at_once);
//   BatchWork work(session, {.place = [&] { return BatchWork::Place{pass.batch(), "the evaluation"}; }, ...});
//   pass.run(work, evaluation, [&](const Batch& batch) { ... });
#pragma once

#include <cstdint>
#include <functional>

#include "framework/report/reporter.hpp"
#include "framework/train/batch_work.hpp"
#include "framework/train/housekeeping.hpp"

namespace sluice {

class SplitPass {
 public:
  enum class OnSignal { stop, end_at_once };
  SplitPass(Session& session, Housekeeping& housekeeping, Reporter& reporter, OnSignal on_signal);

  // Counts each batch, or chunk of a clip, and calls `done` with it; ends early on a signal.
  void run(BatchWork& work, Evaluation& evaluation, const std::function<void(const Batch&)>& done);
  // That is at work.
  [[nodiscard]] std::int64_t batch() const { return batch_; }

 private:
  void run_feed(BatchWork& work, Evaluation& evaluation, const std::function<void(const Batch&)>& done);

  Session& session_;
  Housekeeping& housekeeping_;
  Reporter& reporter_;
  OnSignal on_signal_;
  std::int64_t batch_ = 0;
};

}  // namespace sluice
