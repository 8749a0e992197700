// Phases in closed form: every `eval_every` trainings are followed by an evaluation, and the last one always is.
#include "framework/train/phases.hpp"

namespace sluice {

bool PhasePlan::evaluated_after(std::int64_t epoch) const {
  if (!has_val) return false;
  return (epochs > 0 && epoch + 1 == epochs) || (eval_every > 0 && (epoch + 1) % eval_every == 0);
}

std::optional<PhasePlan::Entry> PhasePlan::at(std::uint64_t n) const {
  const auto number = static_cast<std::int64_t>(n);
  // Before the last epoch the phases come in rounds of `eval_every` trainings and one evaluation.
  const bool rounds = has_val && eval_every > 0;
  const std::int64_t round = eval_every + 1;
  Entry entry;
  if (rounds) {
    const std::int64_t within = number % round;
    entry.kind = within == eval_every ? Phase::Kind::eval : Phase::Kind::train;
    entry.epoch = number / round * eval_every + (within == eval_every ? eval_every - 1 : within);
  } else {
    entry.epoch = number;
  }
  if (epochs == 0 || entry.epoch < epochs) return entry;
  // The phase behind the last training: an evaluation, unless the rounds had one there.
  const bool in_round = rounds && epochs % eval_every == 0;
  const std::int64_t count = epochs + (rounds ? epochs / eval_every : 0);
  if (has_val && !in_round && number == count) return Entry{Phase::Kind::eval, epochs - 1};
  return std::nullopt;
}

}  // namespace sluice
