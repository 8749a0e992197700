// What a checkpoint says of its run beside the tensors, as JSON, and what differs when it is resumed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "framework/train/best.hpp"
#include "framework/train/phases.hpp"
#include "framework/train/precision.hpp"
#include "framework/train/training_plan.hpp"

namespace sluice {

struct RunState {
  std::int64_t step = 0;   // optimizer steps done
  std::int64_t epoch = 0;  // of the cursor
  Cursor cursor;
  std::int64_t seed = 0;
  std::int64_t failures = 0;  // samples of this epoch that could not be used
  std::int64_t evaluated_at = -1;  // step of the last evaluation
  // The numeric plan: a resumed run follows it to the bit, or is refused.
  std::int64_t microbatch = 0;
  std::int64_t chunk = 0;  // 0: whole clips
  std::int64_t compute_threads = 0;
  std::string layout;
  std::string precision = "fp32";
  std::vector<std::string> routed{};  // kernels that are computed in another way than the library's
  std::string device;  // kind of device, e.g. "cpu"
  // Where memory ran out: what is followed at this step instead of it.
  std::optional<LadderState> ladder{};
  LossScaler::State scaler{};
  std::int64_t skipped = 0;  // batches whose loss or gradient was not finite
  // The data.
  std::vector<std::string> classes;
  std::int64_t train_samples = 0;
  std::string train_digest{};  // of what they are: Dataset::digest()
  // The best so far.
  std::string best_metric;
  std::optional<BestSoFar::State> best;
  std::int64_t without_better = 0;
  // How it was made.
  std::string pipeline;  // canonical TOML
  std::vector<std::string> overrides;
  std::vector<std::pair<std::string, std::string>> plugins;  // name, hash of its file
  std::string torch_version;
  std::string sluice_version;
};

[[nodiscard]] std::string to_json(const RunState& state);
// Throws Error(Code::data) that says what is wrong.
[[nodiscard]] RunState run_state_from_json(const std::string& text);

struct Difference {
  std::string what;  // "batch.size"
  std::string before;
  std::string now;
  bool changes_result = true;
};
// Between the run that was saved and the one that wants to go on from it.
[[nodiscard]] std::vector<Difference> differences(const RunState& saved, const RunState& now);

// Lists the differences. Throws Error(Code::configuration) when one of them changes the result; `force_threads` lets another number
// of compute threads pass, which changes the last digits.
[[nodiscard]] std::vector<std::string> check_resume(const RunState& saved, const RunState& now, bool force_threads);

}  // namespace sluice
