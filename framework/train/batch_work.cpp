// What is tried, and in which order; the trials themselves are in recovery.cpp, evaluation.cpp and out_of_memory.cpp.
#include "framework/train/batch_work.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "framework/base/bytes.hpp"
#include "framework/train/card_report.hpp"

namespace sluice {

BatchWork::BatchWork(Session& session, Options options) : session_(session), options_(std::move(options)) {
  if (const auto& chunking = session_.chunking; chunking.on()) {
    ChunkLadder::Options ladder;
    ladder.planned = chunking.frames;
    ladder.stride = session_.model->temporal_stride();
    ladder.pinned = session_.pipeline.plan.chunk.value > 0;
    if (session_.device.is_cpu()) ladder.needs = session_.planned.needs.gradients + session_.planned.needs.activations;  // it looks at the room in the host
    chunks_.emplace(ladder);
  }
  if (!session_.train_assembler) return;
  auto recovery = recovery_options();
  StepOptions steps = recovery.step;
  step_.emplace(*session_.model, *session_.loss, *session_.optimizer, std::move(recovery));
  if (!session_.chunking.on()) return;
  steps.segments = session_.planned.plan.segments;
  long_step_.emplace(*session_.model, *session_.loss, *session_.optimizer, std::move(steps));
}

Recovery::Options BatchWork::recovery_options() {
  Recovery::Options options;
  options.step.clip_norm = session_.pipeline.optimizer.clip_norm.value;
  options.step.classes = session_.classes();
  options.step.arithmetic = session_.arithmetic;
  options.step.observer = options_.observer;
  options.plan = session_.planned.plan;
  options.limits = session_.planned.limits;
  options.model = session_.planned.model && session_.device.is_cpu() ? &*session_.planned.model : nullptr;  // it looks at the room in the host
  options.changed = options_.plan_changed;
  options.if_open = session_.microbatches_if_open();
  options.say = [this](const std::string& line) { options_.say(fmt::format("{}: {}", options_.place().text, line)); };
  return options;
}

std::optional<StepResult> BatchWork::step(const Batch& batch, double lr, const Step::GoOn& go_on) {
  if (long_step_) {
    telling_out_of_memory([&] { long_step_->add(*session_.train_assembler, batch); });
    if (go_on) static_cast<void>(go_on());  // it may throw; a batch of chunks is left by the feed alone
    if (!batch.complete()) return std::nullopt;
    auto result = telling_out_of_memory([&] { return long_step_->commit(lr); });
    chunks_->step_went_well();
    return result;
  }
  try {
    return step_->run(*session_.train_assembler, batch.samples, lr, go_on);
  } catch (const c10::OutOfMemoryError& error) {
    if (!session_.device.is_cpu()) throw report_of_card(error);
    const auto refusal = begin_trials();
    throw report(refusal, step_->changes_that_fit(*session_.train_assembler, batch.samples, [this](std::uint64_t peak) { return session_.more_memory(peak); }));
  }
}

void BatchWork::evaluate(Evaluation& evaluation, const Batch& batch) {
  try {
    telling_out_of_memory([&] { evaluation.add(*session_.eval_assembler, batch); });
  } catch (const c10::OutOfMemoryError& error) {
    if (next_chunk()) throw;
    if (!session_.device.is_cpu()) throw report_of_card(error);
    const auto refusal = begin_trials();
    std::vector<Change> changes = open_chunks();
    if (const auto peak = peak_of([&] { evaluation.rehearse(*session_.eval_assembler, batch); })) {
      changes.push_back(session_.more_memory(*peak));
      if (!session_.train_assembler) changes.back().effect = fmt::format("this batch went through with {} for its pass", format_bytes(*peak));
    }
    throw report(refusal, changes);
  }
}

// Nothing: clips are whole, or chunks cannot be smaller.
std::optional<std::int64_t> BatchWork::next_chunk() const { return chunks_ ? chunks_->below(options_.place().number) : std::nullopt; }

bool BatchWork::begin_again(const c10::OutOfMemoryError& error) {
  CappedAllocator::install().trim();
  const auto frames = next_chunk();
  if (!frames) return false;
  const auto place = options_.place();
  const bool same = *frames == chunks_->frames();
  options_.say(fmt::format("{}: out of memory, what was not whole is undone ({}): {}", place.text, error.what_without_backtrace(),
                           same ? std::string("the same once more, with freed memory given back")
                                : fmt::format("{} frames at a time instead of {} from here on, which changes the last bits", *frames, chunks_->frames())));
  chunks_->failed(place.number, *frames);
  if (same) return true;
  session_.use_chunks(*frames);
  tell_change();
  return true;
}

// Of the tensors, beside what lives now.
std::uint64_t BatchWork::room() {
  const auto now = CappedAllocator::install().counters();
  return now.cap == 0 ? no_cap : now.cap - std::min(now.cap, now.live);
}

bool BatchWork::may_go_back() const { return long_step_ && chunks_->above(room()).has_value(); }

void BatchWork::go_back() {
  options_.say(fmt::format("{}: {} steps went well with {} frames at a time: as planned again, {}, which changes the last bits", options_.place().text, chunks_->clean(), chunks_->frames(), *chunks_->above(room())));
  chunks_->climbed();
  session_.use_chunks(chunks_->frames());
  tell_change();
}

void BatchWork::tell_change() {
  if (!options_.plan_changed || !session_.train_assembler) return;
  TrainingPlan plan = session_.planned.plan;
  plan.chunk = chunks_->frames();
  options_.plan_changed(plan);
}

std::optional<LadderState> BatchWork::ladder() const {
  if (long_step_) return chunks_->state();
  return step_ ? step_->state() : std::nullopt;
}

void BatchWork::restore(const LadderState& state) {
  if (!(long_step_ ? chunks_->restore(state) : step_ && step_->restore(state))) return;
  if (!long_step_) {
    if (const auto& plan = step_->plan(); plan.microbatch != session_.planned.plan.microbatch || !(plan.segments == session_.planned.plan.segments))
      options_.say(fmt::format("memory ran out before: going on with {} at a time, computed twice: {}", plan.microbatch, text_of(plan.segments.twice)));
    return;
  }
  if (!chunks_->reduced()) return;
  options_.say(fmt::format("memory ran out before: going on with {} frames at a time", chunks_->frames()));
  session_.use_chunks(chunks_->frames());
}

CappedAllocator::Refusal BatchWork::begin_trials() const {
  auto refusal = CappedAllocator::install().last_refusal();
  if (options_.save) options_.save();
  options_.beyond_budget("out of memory: trying what would have been enough for this batch, with up to half of what is free");
  return refusal;
}

Error BatchWork::report(const CappedAllocator::Refusal& refusal, const std::vector<Change>& changes) const {
  const bool learns = session_.train_assembler != nullptr;
  std::string hint = hint_of(changes);
  if (changes.empty()) hint = learns ? "raise budget.host_ram; the run goes on from its last checkpoint with --resume" : "raise budget.host_ram";
  else if (learns && options_.place().number > 0) hint += ". What was done so far is saved: --resume goes on from it";
  return Error(Code::configuration, fmt::format("out of memory in {}{}", options_.place().text, report_of(refusal)), hint, session_.pipeline.budget.host_ram.place.text());
}

// Nothing is tried beyond a card's memory.
Error BatchWork::report_of_card(const c10::OutOfMemoryError& error) const {
  CardRefusal refusal = card_refusal(error, session_.device);
  refusal.given = session_.device_memory();
  refusal.planned = session_.planned.needs;
  if (options_.save) options_.save();
  return Error(Code::configuration, fmt::format("out of memory in {}{}", options_.place().text, report_of(refusal)),
               hint_of(refusal) + (session_.train_assembler ? ". What was done so far is saved: --resume goes on from it" : ""), session_.pipeline.budget.device_memory.place.text());
}

// What a pinned chunk keeps from happening by itself.
std::vector<Change> BatchWork::open_chunks() const {
  if (!session_.chunking.on() || session_.pipeline.plan.chunk.value == 0) return {};
  return {{"plan.chunk", "\"auto\"", fmt::format("{} the same up to rounding: chunks then become smaller where memory is short", session_.train_assembler ? "learns" : "says")}};
}

Error BatchWork::out_of_memory() const {
  const auto refusal = CappedAllocator::install().last_refusal();
  if (options_.save) options_.save();
  if (!session_.chunking.on()) return report(refusal, {});
  auto changes = open_chunks();
  const auto& now = refusal.counters;
  const auto lasting = now.of(Account::parameters) + now.of(Account::optimizer);
  changes.push_back(session_.more_memory(now.live - std::min(now.live, lasting) + 2 * refusal.requested));
  changes.back().effect = "an estimate: what was held, and twice what was asked for";
  return report(refusal, changes);
}

}  // namespace sluice
