// The table at the end of a run: epochs, best metric, time, memory by account against the budget, what failed and where things lie.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "framework/report/live.hpp"

namespace sluice {

struct BestResult {
  std::string metric;
  double value = 0;
  std::int64_t step = 0;
  std::int64_t epoch = 0;
};

struct EpochRow {
  std::int64_t epoch = 0;
  std::int64_t last_step = 0;
  std::int64_t clips = 0;
  double loss = 0;     // mean over the steps
  double seconds = 0;  // of its steps, waiting included
  std::vector<std::pair<std::string, double>> numbers;  // of the evaluation that followed
};

struct FailureCount {
  std::int64_t count = 0;
  std::string example;  // where it happened first
};

struct Summary {
  std::string outcome;  // "finished", "stopped by SIGTERM at step 412", "stopped early: ..."
  std::int64_t steps = 0;      // of the whole run
  std::optional<std::int64_t> resumed_step;  // what this process went on from; clips and seconds are its own
  std::int64_t clips = 0;
  double seconds = 0;          // wall time
  double seconds_training = 0;  // of it, in steps, waiting included
  double seconds_waiting = 0;  // for data
  std::vector<EpochRow> epochs;
  std::optional<BestResult> best;
  AccountBytes peak{};
  std::uint64_t peak_resident = 0;  // VmHWM; 0: not known
  std::uint64_t budget = 0;
  std::map<std::string, FailureCount> failures;  // by cause
  std::vector<std::pair<std::string, std::filesystem::path>> places;  // "checkpoints" -> path
};

// Lines without escape codes; tables are cut to `width` columns, and long runs show their first and last epochs.
[[nodiscard]] std::string summary_text(const Summary& summary, int width = 100);
// "cause", times, first place: what `failures.jsonl` lists one by one.
[[nodiscard]] std::string failures_text(const std::map<std::string, FailureCount>& failures);

}  // namespace sluice
