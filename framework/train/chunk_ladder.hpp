// How many frames of a long clip go through at once while a run goes on: fewer where memory runs out, those of the plan when there is room again.
//
//   ChunkLadder ladder({.planned = 64});
//   ladder.below(steps);          // out of memory: 64, the same once more; then 32. Nothing: there is no rung left
//   ladder.follow(32);
//   ladder.step_went_well();      // twenty times
//   ladder.above(room);           // 64, where they fit
#pragma once

#include <cstdint>
#include <optional>

#include "framework/train/training_plan.hpp"

namespace sluice {

class ChunkLadder {
 public:
  struct Options {
    std::int64_t planned = 0;      // frames
    std::int64_t stride = 1;       // of the model: chunks are multiples of it
    bool pinned = false;           // by the pipeline: the same once more, and nothing else
    std::uint64_t needs = 0;       // bytes of a step with the planned chunk beside what lasts from step to step; 0: not known
    std::int64_t clean_steps = 20;  // until the planned chunk is tried again; twice as many after each time that it did not last so long
  };
  explicit ChunkLadder(Options options) : options_(options), now_(options.planned), clean_(options.clean_steps), patience_(options.clean_steps) {}

  [[nodiscard]] std::int64_t frames() const { return now_; }
  [[nodiscard]] bool reduced() const { return now_ != options_.planned; }
  [[nodiscard]] std::int64_t clean() const { return clean_; }

  // After a failure at `place`, which is another one than before once something was done: what to try next.
  [[nodiscard]] std::optional<std::int64_t> below(std::int64_t place) const;
  // `place` failed and is tried again with so many frames.
  void failed(std::int64_t place, std::int64_t frames);

  void step_went_well();
  // Between two steps, with so many bytes to be had: the planned chunk, where it is time and it fits.
  [[nodiscard]] std::optional<std::int64_t> above(std::uint64_t room) const;
  void climbed();

  // For a checkpoint; nothing while it is as at the start.
  [[nodiscard]] std::optional<LadderState> state() const;
  // False: the pipeline does not allow it, and all stays as planned.
  bool restore(const LadderState& state);

 private:
  Options options_;
  std::int64_t now_;
  std::int64_t clean_;  // steps since it changed, as many as matter; at the start as if it had lasted
  std::int64_t patience_;
  std::optional<std::int64_t> tried_at_;
};

}  // namespace sluice
