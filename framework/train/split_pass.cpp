// A batch that failed has counted nothing, so the next feed begins with it.
#include "framework/train/split_pass.hpp"

#include "framework/train/live_feed.hpp"

namespace sluice {

SplitPass::SplitPass(Session& session, Housekeeping& housekeeping, Reporter& reporter, OnSignal on_signal)
    : session_(session), housekeeping_(housekeeping), reporter_(reporter), on_signal_(on_signal) {}

void SplitPass::run(BatchWork& work, Evaluation& evaluation, const std::function<void(const Batch&)>& done) {
  for (batch_ = 0;;) {
    try {
      return run_feed(work, evaluation, done);
    } catch (const c10::OutOfMemoryError& error) {
      if (!work.begin_again(error)) throw work.out_of_memory();
    }
  }
}

void SplitPass::run_feed(BatchWork& work, Evaluation& evaluation, const std::function<void(const Batch&)>& done) {
  Feed feed(*session_.dataset, session_.stages, *session_.samples, session_.feed_options(),
            [first = batch_](std::uint64_t n) { return n == 0 ? std::optional(Phase{Phase::Kind::eval, 0, first}) : std::nullopt; });
  const LiveFeed live(feed, session_, housekeeping_, reporter_);
  if (on_signal_ == OnSignal::end_at_once) housekeeping_.on_stop_end_at_once();
  while (auto batch = feed.next()) {
    housekeeping_.progress();
    if (housekeeping_.stop_requested()) return;
    batch_ = batch->index;
    work.evaluate(evaluation, *batch);
    done(*batch);
  }
}

}  // namespace sluice
