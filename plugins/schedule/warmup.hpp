// Warm-up, which every schedule has: the factor rises in a line from warmup_start to that of the schedule itself.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <utility>

#include <sluice/torch/plugin.hpp>

namespace sluice::schedule {

struct Warmup {
  double warmup = 0;
  double warmup_start = 0.1;
  static constexpr auto warmup_fields = sluice::fields(
      field(&Warmup::warmup, "warmup", "length of the warm-up: below 1 a part of all steps, from 1 on a number of steps", at_least(0)),
      field(&Warmup::warmup_start, "warmup_start", "factor at the first step of the warm-up", range(0, 1)));

  [[nodiscard]] std::int64_t steps(std::int64_t total) const {
    return std::llround(warmup < 1 ? warmup * static_cast<double>(total) : std::min(warmup, 9e15));
  }
  // Factor at a step below steps(): as torch.optim.lr_scheduler.LinearLR has it.
  [[nodiscard]] double rise(std::int64_t step, std::int64_t length) const {
    return step >= length ? 1.0 : warmup_start + (1.0 - warmup_start) * static_cast<double>(step) / static_cast<double>(length);
  }
};

// How far a step is between the end of the warm-up (0) and the end of training (1).
struct Progress {
  std::int64_t warm, total;
  [[nodiscard]] double operator()(std::int64_t step) const {
    return total <= warm ? 0.0 : std::clamp(static_cast<double>(step - warm) / static_cast<double>(total - warm), 0.0, 1.0);
  }
};

// A schedule made of a warm-up and a function of the step.
template <class Function> class Warmed : public Schedule {
 public:
  Warmed(const Warmup& warmup, std::int64_t length, Function base) : warmup_(warmup), length_(length), base_(std::move(base)) {}
  [[nodiscard]] double factor(std::int64_t step) const override { return warmup_.rise(step, length_) * base_(step); }

 private:
  Warmup warmup_;
  std::int64_t length_;
  Function base_;
};

template <class Function> std::unique_ptr<Schedule> warmed(const Warmup& warmup, std::int64_t length, Function base) {
  return std::make_unique<Warmed<Function>>(warmup, length, std::move(base));
}

}  // namespace sluice::schedule
