// The learning rate as it is, after a warm-up.
#include "warmup.hpp"

namespace {

struct Recipe : sluice::schedule::Warmup {
  static constexpr std::string_view help = "the same learning rate throughout, after a warm-up";
  static constexpr auto fields = warmup_fields;
  std::unique_ptr<sluice::Schedule> build(const sluice::ScheduleContext& context) const {
    return sluice::schedule::warmed(*this, steps(context.total_steps), [](std::int64_t) { return 1.0; });
  }
};

}  // namespace

SLUICE_SCHEDULE(Recipe, "schedule.constant");
