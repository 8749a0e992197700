// How a logical batch is trained on: what the pipeline and batch norm leave open, and what was chosen.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "framework/config/pipeline.hpp"
#include "framework/train/pass.hpp"

namespace sluice {

struct TrainingPlan {
  std::int64_t microbatch = 1;  // changes the rounding of the gradients: stored, and followed on resume
  std::int64_t eval_microbatch = 1;
  SegmentPlan segments{};  // changes no bit
  std::int64_t chunk = 0;  // frames of a long clip at a time, 0: whole; changes the rounding, and what is drawn in an encoder
  friend bool operator==(const TrainingPlan&, const TrainingPlan&) = default;
};

// Where a run stands on its way down from its plan and back up (recovery.hpp, chunk_ladder.hpp), as a checkpoint keeps it: a resumed run goes
// on from there, as the one that was not interrupted did.
struct LadderState {
  std::int64_t microbatch = 0;
  std::int64_t chunk = 0;            // frames; 0: whole clips
  bool every_segment_twice = false;  // though the plan computes some of them once
  std::int64_t clean = 0;            // steps that went well since the last change
  std::int64_t patience = 0;         // steps after which something is taken back
  friend bool operator==(const LadderState&, const LadderState&) = default;
};

// "stem, layer1", "every segment" or "nothing".
[[nodiscard]] std::string text_of(const Segments& segments);
// By name, of a model that has these: all of them are the outermost ones that it names itself.
[[nodiscard]] std::set<std::string, std::less<>> names_of(const Segments& segments, const std::vector<std::string>& paths);

struct PlanLimits {
  std::int64_t batch = 1;
  std::vector<std::int64_t> microbatches;  // those that may be chosen, the largest first; as large as the number of passes allows
  std::vector<std::int64_t> smaller{};     // further ones that a step may fall back to; the largest first
  std::int64_t eval_microbatch = 0;        // 0: that of the training, or less
  SegmentChoice checkpoint;
  SegmentChoice offload{};
  std::string to_stay_whole{};             // what to write for the batch to go through in one piece
  [[nodiscard]] bool one_pass() const { return microbatches.back() >= batch; }
};

// `batch_norms`: layers that take statistics over the batch (those that are frozen do not count). They are part of the result:
// with "batch" the microbatch is the whole logical batch, with { group = N } it is N. `saved`: the microbatch of the run that is
// resumed, where the pipeline leaves it open. Throws Error(Code::configuration) with the three choices where the pipeline wants
// something else.
[[nodiscard]] PlanLimits plan_limits(const Pipeline& pipeline, std::int64_t batch_norms, std::optional<std::int64_t> saved = {});

}  // namespace sluice
