// Everything that a resumed run must meet again goes by the cursor: phase, batch, and nothing else.
#include "framework/train/training_run.hpp"

#include <cmath>
#include <memory>
#include <optional>

#include <ATen/Context.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <sluice/error.hpp>
#include <sluice/rng.hpp>

#include "framework/base/clock.hpp"
#include "framework/base/log.hpp"
#include "framework/base/strings.hpp"
#include "framework/memory/process.hpp"
#include "framework/state/files.hpp"
#include "framework/state/lock.hpp"
#include "framework/train/batch_work.hpp"
#include "framework/train/capped_allocator.hpp"
#include "framework/train/checkpointing.hpp"
#include "framework/train/debug_watch.hpp"
#include "framework/train/evaluation.hpp"
#include "framework/train/live_feed.hpp"
#include "framework/train/lost_device.hpp"
#include "framework/train/phases.hpp"
#include "framework/train/run_reports.hpp"
#include "framework/train/session.hpp"
#include "framework/train/split_pass.hpp"

namespace sluice {
namespace {

// Steps in a row whose loss or gradient is no number, until the run ends: by then the weights will not come back.
constexpr int longest_streak = 10;

class TrainingRun {
 public:
  TrainingRun(const RunLock& lock, const TrainRequest& request, Housekeeping& housekeeping, Reporter& reporter)
      : lock_(lock),
        request_(request),
        housekeeping_(housekeeping),
        reporter_(reporter),
        store_(checkpoint_folder(request.pipeline->run.dir.value), {.keep = request.pipeline->checkpoint.keep.value}),
        found_(request.resume ? store_.newest() : CheckpointStore::Found{}),
        saved_(found_.checkpoint ? std::optional(run_state_from_json(found_.checkpoint->state())) : std::nullopt),
        session_(request, reporter, session_options()),
        watch_(request.debug ? std::make_unique<DebugWatch>() : nullptr),
        plan_{session_.pipeline.run.steps.value > 0 ? 0 : session_.pipeline.run.epochs.value, session_.pipeline.eval.every.value, session_.eval_assembler != nullptr},
        best_(best_metric(), session_.pipeline.eval.patience.value),
        work_(session_, work_options()),
        identity_(session_.state(request)) {}

  int run() {
    return on_device([this] { return DeviceUse{session_.device, place(), saved_step_ ? fmt::format("go on from step-{}, the last that is saved, with --resume", *saved_step_) : "begin anew, for nothing was saved yet"}; },
                     [this] { return run_on_device(); });
  }

 private:
  int run_on_device() {
    restore();
    start();
    housekeeping_.on_stop({});
    std::string outcome = "finished";
    try {
      if (resumed_ && (steps_done() || !plan_.at(cursor_.phase))) reporter_.note("all steps of this run were done already");
      if (train()) outcome = stopped_early_;
      if (!housekeeping_.stop_requested() && steps_done() && plan_.has_val && evaluated_at_ != step_count_) evaluate_at_the_end();
    } catch (const c10::OutOfMemoryError&) {
      throw work_.out_of_memory();
    } catch (const std::exception& error) {
      if (says_device_is_lost(error)) throw;  // nothing of it is read any more
      save_what_there_is();
      if (const auto* failed = dynamic_cast<const c10::Error*>(&error))
        throw Error(Code::plugin, fmt::format("{}: {}{}", place(), failed->what_without_backtrace(), failed_operation()), watch_ ? "" : "--debug names the operation and its segment");
      if (const auto* told = dynamic_cast<const Error*>(&error); told && told->code() == Code::plugin && told->where().empty()) throw Error(Code::plugin, fmt::format("{}: {}", place(), told->message()), told->hint());
      throw;
    }
    if (step_count_ == 0 && streak_ > 0 && !housekeeping_.stop_requested())
      throw Error(Code::data, "the loss was finite in no batch: nothing was learnt", "look at model.weights and at the data (sluice data show), or lower optimizer.lr");
    if (saved_at_ != std::pair(cursor_.phase, cursor_.batch)) save(false);
    if (housekeeping_.stop_requested()) outcome = fmt::format("stopped by {} at step {}, which is saved; --resume goes on from it", housekeeping_.signal_name(), step_count_);
    finish(outcome);
    return housekeeping_.exit_code();
  }

  // What is at work.
  [[nodiscard]] std::string place() const { return evaluation_ ? fmt::format("the evaluation after step {}", step_count_) : fmt::format("step {}", step_count_ + 1); }

  [[nodiscard]] Session::Options session_options() const {
    Session::Options options;
    options.progress = [this] { housekeeping_.progress(); };
    if (saved_) options.saved_microbatch = saved_->microbatch, options.saved_chunk = saved_->chunk, options.saved_device = saved_->device;
    return options;
  }

  [[nodiscard]] BatchWork::Options work_options() {
    BatchWork::Options options;
    options.place = [this] { return BatchWork::Place{step_count_, place()}; };
    options.say = [this](const std::string& line) { reporter_.warning(line); };
    options.beyond_budget = [this](const std::string& line) { reporter_.beyond_budget(line); };
    options.plan_changed = [this](const TrainingPlan& plan) {
      reporter_.plan_changed({step_count_ + (evaluation_ ? 0 : 1), plan.microbatch, plan.chunk, text_of(plan.segments.twice)});
    };
    options.save = [this] { save_what_there_is(); };
    options.observer = watch_.get();
    return options;
  }


  [[nodiscard]] std::string best_metric() const {
    const auto& named = session_.pipeline.eval.best.value;
    if (!named.empty() || session_.eval_assembler == nullptr) return named;
    const auto names = metric_names(session_.metrics);
    return names.size() > 1 ? names[1] : names[0];
  }

  void restore() {
    std::int64_t from = 0;
    if (request_.resume) {
      for (const auto& refused : found_.refused) reporter_.warning(fmt::format("{} is passed over: {}", refused.path.string(), refused.why));
      if (found_.checkpoint) {
        for (const auto& line : check_resume(*saved_, identity_, request_.force_threads)) reporter_.note("differs from the saved run: " + line);
        const auto restored = restore_checkpoint(*found_.checkpoint, *session_.model, *session_.optimizer);
        cursor_ = restored.state.cursor;
        step_count_ = from = restored.state.step;
        saved_step_ = step_count_;
        failures_ = failures_at_cursor_ = restored.state.failures;
        evaluated_at_ = restored.state.evaluated_at;
        stage_states_ = restored.stages;
        work_.scaler().restore(restored.state.scaler);
        if (restored.state.ladder) work_.restore(*restored.state.ladder);
        skipped_ = restored.state.skipped;
        if (saved_->best_metric == best_.metric()) best_.restore(saved_->best, saved_->without_better);
        resumed_ = true;
        found_.checkpoint.reset();
      } else {
        reporter_.note("there is no checkpoint to resume from: starting afresh");
        for (const auto& aside : checkpoints_set_aside(session_.pipeline.run.dir.value)) reporter_.note(fmt::format("an earlier run's is set aside as {}: rename it to {} to go on from it", aside.string(), name_before(aside)));
      }
    }
    for (const auto& aside : store_.continue_from(from))
      reporter_.warning(fmt::format("an earlier run left a checkpoint here; it is set aside as {}{}", aside.string(),
                                    resumed_ ? "" : fmt::format(" (to go on from it instead: stop this run, rename it to {}, and say --resume)", name_before(aside))));
    saved_at_ = resumed_ ? std::pair(cursor_.phase, cursor_.batch) : std::pair<std::uint64_t, std::int64_t>(0, 0);
  }

  void start() {
    const auto& pipeline = session_.pipeline;
    write_file(system_disk(), pipeline.run.dir.value / "pipeline.toml", pipeline.canonical);
    write_file(system_disk(), pipeline.run.dir.value / "plan.toml", session_.plan_toml());
    reporter_.run_started(start_of(session_, plan_.epochs, resumed_ ? std::optional(step_count_) : std::nullopt));
    for (const auto& failed : session_.dataset->failed()) reporter_.failed(step_count_, 0, failed);
    session_.check_failures(static_cast<std::int64_t>(session_.dataset->failed().size()));
  }

  enum class Next { go_on, begin_again, leave, stop_early };

  // Returns whether it stopped early. After a want of memory, and when there is room again, the feed begins anew where the last whole step
  // ended.
  bool train() {
    for (;;) {
      try {
        if (const Next next = train_on_feed(); next != Next::begin_again) return next == Next::stop_early;
      } catch (const c10::OutOfMemoryError& error) {
        if (!work_.begin_again(error)) throw;
        evaluation_.reset();
        failures_ = failures_at_cursor_;
        waited_ = computed_ = 0;
      }
    }
  }

  Next train_on_feed() {
    const std::uint64_t first = cursor_.phase;
    const auto phase = [this, first](std::uint64_t n) -> std::optional<Phase> {
      const auto entry = plan_.at(first + n);
      if (!entry) return std::nullopt;
      return Phase{entry->kind, entry->kind == Phase::Kind::train ? static_cast<std::uint64_t>(entry->epoch) : 0, n == 0 ? cursor_at_start_.batch : 0};
    };
    cursor_at_start_ = cursor_;
    if (steps_done() || !plan_.at(first)) return Next::leave;
    if (work_.may_go_back()) work_.go_back();
    Feed::Options options = session_.feed_options();
    options.states = stage_states_;
    Feed feed(*session_.dataset, session_.stages, *session_.samples, std::move(options), phase);
    const LiveFeed live(feed, session_, housekeeping_, reporter_);
    for (;;) {
      const Stopwatch waiting;
      auto batch = feed.next();
      if (!batch || housekeeping_.stop_requested()) return Next::leave;
      housekeeping_.progress();
      if (const Next next = consume(std::move(*batch), first, waiting.seconds()); next != Next::go_on) return next;
    }
  }

  // Takes the batch, so that its bytes are free again before the next one is asked for.
  Next consume(Batch batch, std::uint64_t first, double waited) {
    const auto entry = *plan_.at(first + batch.phase);
    count_failures(batch, entry.epoch);
    if (entry.kind == Phase::Kind::train) {
      if (!train_on(batch, entry.epoch, waited) || steps_done()) return Next::leave;
      return batch.complete() && work_.may_go_back() ? Next::begin_again : Next::go_on;
    }
    if (!evaluate_on(batch, entry.epoch)) return Next::go_on;
    stopped_early_ = fmt::format("stopped early: {} evaluations without a better {}", best_.without_better(), best_.metric());
    return Next::stop_early;
  }

  [[nodiscard]] bool steps_done() const { return plan_.epochs == 0 && step_count_ >= session_.total_steps; }

  void count_failures(const Batch& batch, std::int64_t epoch) {
    if (epoch != failures_epoch_) {
      if (failures_epoch_ >= 0) failures_ = 0;
      failures_epoch_ = epoch;
    }
    for (const auto& failed : batch.failed) reporter_.failed(step_count_, epoch, failed);
    failures_ += static_cast<std::int64_t>(batch.failed.size());
    session_.check_failures(failures_ + static_cast<std::int64_t>(session_.dataset->failed().size()));
  }

  // Returns whether to go on.
  bool train_on(Batch& batch, std::int64_t epoch, double waited) {
    if (waited_ == 0 && computed_ == 0) CappedAllocator::install().reset_peak();
    const Stopwatch computing;
    waited_ += waited;
    const double lr = session_.learning_rate(step_count_);
    if (watch_) watch_->begin();
    // What a model draws beside its Pass is then the same however often the run was interrupted.
    at::manual_seed(mix_bits(mix_bits(static_cast<std::uint64_t>(session_.pipeline.run.seed.value) ^ mix_bits(cursor_.phase)) + static_cast<std::uint64_t>(batch.index)));
    const std::optional<StepResult> done = work_.step(batch, lr, [this] {
      housekeeping_.progress();
      refuse_wrong_indices();
      return !housekeeping_.stop_requested();
    });
    computed_ += computing.seconds();
    if (!done) return true;
    const StepResult& result = *done;
    if (result.abandoned) return false;
    if (result.updated) {
      ++step_count_;
      streak_ = 0;
      session_.measure_runtime();
      StepReport report = report_of(session_, result);
      report.step = step_count_;
      report.epoch = epoch;
      report.lr = lr;
      if (work_.scaler().active()) report.scalars.emplace_back("loss_scale", work_.scaler().scale());
      report.seconds_waiting_for_data = waited_;
      report.seconds_computing = computed_;
      report.last_of_epoch = batch.last;
      reporter_.step(report);
    } else if (result.weight > 0) {
      ++skipped_;
      const char* what = std::isfinite(result.loss) ? "gradient" : "loss";
      // A scale that still can fall is being found, which is no sign of anything.
      if (result.overflow) reporter_.warning(fmt::format("batch {} of epoch {}: the {} is not finite; no update, and the loss is scaled by {} from here on", batch.index, epoch, what, work_.scaler().scale()));
      else reporter_.not_finite(batch.index, epoch, what, first_not_finite());
      if (!result.overflow && ++streak_ >= longest_streak)
        throw Error(Code::data, fmt::format("the loss or its gradient was not finite in {} batches in a row", streak_),
                    fmt::format("lower optimizer.lr, set optimizer.clip_norm, {}or look at the data: sluice data show", session_.arithmetic.reduced() ? "write run.precision = \"fp32\", " : ""));
    }
    waited_ = computed_ = 0;
    stage_states_ = std::move(batch.states);
    failures_at_cursor_ = failures_;
    cursor_ = batch.last ? Cursor{cursor_.phase + 1, 0} : Cursor{cursor_.phase, batch.index + 1};

    const std::int64_t every = session_.pipeline.checkpoint.every.value;
    due_ = due_ || (every > 0 && result.updated && step_count_ % every == 0) || (every == 0 && batch.last);
    // An evaluation at this step comes first: its rows belong before the checkpoint.
    const bool evaluation_follows = batch.last && plan_.evaluated_after(epoch);
    if (due_ && !evaluation_follows) save(false);
    return true;
  }

  void begin_evaluation() {
    evaluation_.emplace(*session_.model, session_.loss.get(), session_.metrics,
                        EvalOptions{session_.dataset->views(Split::val), session_.pipeline.eval.average.value, session_.classes(), session_.arithmetic});
    evaluation_watch_.restart();
    evaluated_clips_ = 0;
  }

  // Returns whether the run is to stop.
  bool evaluate_on(const Batch& batch, std::int64_t epoch) {
    if (!evaluation_) begin_evaluation();
    if (watch_) watch_->begin();
    work_.evaluate(*evaluation_, batch);
    refuse_wrong_indices();
    return evaluated(batch, epoch);
  }

  bool evaluated(const Batch& batch, std::int64_t epoch) {
    evaluated_clips_ += batch.clips();
    reporter_.progress("evaluating", std::min(0.999, static_cast<double>(evaluated_clips_) / static_cast<double>(std::max<std::int64_t>(1, session_.dataset->samples(Split::val)))));
    if (!batch.last) return false;
    reporter_.progress("evaluating", 1);
    const EvalNumbers numbers = evaluation_->finish();
    evaluation_.reset();
    evaluated_at_ = step_count_;
    failures_at_cursor_ = failures_;
    if (!final_evaluation_) cursor_ = {cursor_.phase + 1, 0};
    const bool best = best_.offer(numbers.numbers, step_count_, epoch);
    EvalReport report = report_of(numbers);
    report.step = step_count_;
    report.epoch = epoch;
    report.seconds = evaluation_watch_.seconds();
    if (best) report.best = BestResult{best_.metric(), best_.best()->value, step_count_, epoch};
    reporter_.evaluation(report);
    if (due_ || best) save(best);
    return best_.stop();
  }

  // A run that is declared in steps ends where no evaluation may be due.
  void evaluate_at_the_end() {
    final_evaluation_ = true;
    const Cursor here = cursor_;
    begin_evaluation();
    SplitPass(session_, housekeeping_, reporter_, SplitPass::OnSignal::stop)
        .run(work_, *evaluation_, [this](const Batch& batch) {
          count_failures(batch, failures_epoch_);
          evaluated(batch, failures_epoch_);
        });
    evaluation_.reset();
    cursor_ = here;
  }

  void save(bool best) {
    lock_.check();
    housekeeping_.progress();
    RunState state = identity_;
    state.step = step_count_;
    const auto entry = plan_.at(cursor_.phase);
    state.epoch = entry ? entry->epoch : plan_.epochs;
    state.cursor = cursor_;
    state.failures = cursor_.batch == 0 && entry && entry->kind == Phase::Kind::train ? 0 : failures_;
    state.evaluated_at = evaluated_at_;
    state.ladder = work_.ladder();
    state.scaler = work_.scaler().state();
    state.skipped = skipped_;
    state.best_metric = best_.metric();
    state.best = best_.best();
    state.without_better = best_.without_better();
    reporter_.sync();
    const auto saved = save_checkpoint(store_, state, *session_.model, *session_.optimizer, stage_states_, best);
    reporter_.checkpoint_saved(step_count_, saved.folder, saved.bytes, saved.seconds, best);
    saved_at_ = {cursor_.phase, cursor_.batch};
    saved_step_ = step_count_;
    due_ = false;
    housekeeping_.progress();
  }

  [[nodiscard]] std::string first_not_finite() const {
    if (!watch_) return "--debug names the first operation";
    const auto found = watch_->first_not_finite();
    return found.empty() ? "every operation gave finite values, so it is the sum of gradients" : "the first was " + found;
  }
  [[nodiscard]] std::string failed_operation() const {
    if (!watch_) return {};
    std::string text = "\n  in " + watch_->last_operation();
    for (const auto& seen : {watch_->mismatched(), watch_->out_of_range()})
      if (!seen.empty()) text += "\n  " + seen;
    return text;
  }
  // Before the update: some operations go on with an index that is none.
  void refuse_wrong_indices() const {
    if (!watch_) return;
    if (const auto found = watch_->out_of_range(); !found.empty())
      throw Error(Code::plugin, found, "the operation said nothing, and what it made of it is a wrong number: look at the labels, ids and lengths that reach it (sluice data show)");
  }

  // On the way out of an error: every committed step is whole, so it may be kept.
  void save_what_there_is() {
    try {
      if (step_count_ > 0 && saved_at_ != std::pair(cursor_.phase, cursor_.batch)) save(false);
    } catch (const std::exception& error) {
      if (says_device_is_lost(error)) throw;
      log::warning("nothing could be saved on the way out: {}", error.what());
    }
  }

  void finish(const std::string& outcome) {
    RunEnd end;
    end.outcome = outcome;
    if (skipped_ > 0) end.outcome += fmt::format("; {} gave no update, for the loss or the gradient was not finite", counted(static_cast<std::uint64_t>(skipped_), "batch"));
    if (best_.best()) end.best = BestResult{best_.metric(), best_.best()->value, best_.best()->step, best_.best()->epoch};
    end.peak_resident = peak_resident_bytes();
    end.places.emplace_back("checkpoints", checkpoint_folder(session_.pipeline.run.dir.value));
    reporter_.run_finished(end);
  }

  const RunLock& lock_;
  const TrainRequest& request_;
  Housekeeping& housekeeping_;
  Reporter& reporter_;
  CheckpointStore store_;
  CheckpointStore::Found found_;     // what is resumed
  std::optional<RunState> saved_;    // of it
  Session session_;
  std::unique_ptr<DebugWatch> watch_;  // with --debug
  PhasePlan plan_;
  BestSoFar best_;
  BatchWork work_;
  double waited_ = 0, computed_ = 0;   // seconds, for the batch at hand
  RunState identity_;

  Cursor cursor_;
  Cursor cursor_at_start_;
  std::int64_t step_count_ = 0;
  StageStates stage_states_;
  std::int64_t failures_ = 0;
  std::int64_t failures_at_cursor_ = 0;
  std::int64_t failures_epoch_ = -1;
  int streak_ = 0;
  std::int64_t skipped_ = 0;
  bool resumed_ = false;
  bool due_ = false;
  std::pair<std::uint64_t, std::int64_t> saved_at_;
  std::optional<std::int64_t> saved_step_;  // of the newest checkpoint
  std::string stopped_early_;

  std::optional<Evaluation> evaluation_;
  Stopwatch evaluation_watch_;
  std::int64_t evaluated_clips_ = 0;
  std::int64_t evaluated_at_ = -1;
  bool final_evaluation_ = false;
};

}  // namespace

int run_training(const TrainRequest& request, Housekeeping& housekeeping, Reporter& reporter) {
  const RunLock lock(request.pipeline->run.dir.value);
  housekeeping.on_stop_end_at_once();
  TrainingRun run(lock, request, housekeeping, reporter);
  return run.run();
}

}  // namespace sluice
