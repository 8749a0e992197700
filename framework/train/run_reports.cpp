// Only copies and words; nothing here decides anything.
#include "framework/train/run_reports.hpp"

#include <fmt/format.h>

#include "framework/base/clock.hpp"

namespace sluice {

RunStart start_of(const Session& session, std::int64_t epochs, std::optional<std::int64_t> resumed_step) {
  RunStart run;
  run.name = session.pipeline.run.name.value;
  run.dir = session.pipeline.run.dir.value;
  run.total_steps = session.total_steps;
  run.epochs = epochs;
  run.budget = session.budget.host_ram;
  run.resumed_step = resumed_step;
  run.facts = session.facts();
  std::string parts;
  double total = 0;
  for (const auto& [what, seconds] : session.seconds) {
    total += seconds;
    parts += fmt::format("{}{} {}", parts.empty() ? "" : ", ", what, format_duration(seconds));
  }
  run.facts.emplace_back("ready in", fmt::format("{} ({})", format_duration(total), parts));
  run.pipeline = session.pipeline.canonical;
  return run;
}

StepReport report_of(const Session& session, const StepResult& result) {
  StepReport report;
  report.loss = result.loss;
  report.scalars = result.scalars;
  if (result.gradient_norm > 0) report.scalars.emplace_back("gradient_norm", result.gradient_norm);
  report.clips = result.clips;
  report.accounts = session.accounts(true);
  return report;
}

EvalReport report_of(const EvalNumbers& numbers) {
  EvalReport report;
  report.numbers = numbers.numbers;
  report.tables = numbers.tables;
  report.clips = numbers.clips;
  return report;
}

}  // namespace sluice
