// The order of a run: training of epoch 0, evaluation, training of epoch 1, ...: a pure function, so that a resumed run meets it again.
#pragma once

#include <cstdint>
#include <optional>

#include "framework/flow/feed.hpp"

namespace sluice {

struct PhasePlan {
  std::int64_t epochs = 0;      // 0: without end, for a run that is declared in steps
  std::int64_t eval_every = 1;  // epochs; 0: only after the last
  bool has_val = true;

  struct Entry {
    Phase::Kind kind = Phase::Kind::train;
    std::int64_t epoch = 0;  // of the training that it is, or that it follows
  };
  // The n-th phase; nothing after the last.
  [[nodiscard]] std::optional<Entry> at(std::uint64_t n) const;
  [[nodiscard]] bool evaluated_after(std::int64_t epoch) const;
};

// Where a run stands: the next batch to train on. All batches before it are in the weights.
struct Cursor {
  std::uint64_t phase = 0;
  std::int64_t batch = 0;
};

}  // namespace sluice
