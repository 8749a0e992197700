// Half a cosine from 1 down to `end` (Loshchilov and Hutter 2017), over the steps that follow the warm-up.
#include <numbers>

#include "warmup.hpp"

namespace {

struct Recipe : sluice::schedule::Warmup {
  static constexpr std::string_view help = "falls along half a cosine to the end of training";
  double end = 0;
  static constexpr auto fields =
      std::tuple_cat(sluice::fields(sluice::field(&Recipe::end, "end", "factor that it falls to", sluice::range(0, 1))), warmup_fields);
  std::unique_ptr<sluice::Schedule> build(const sluice::ScheduleContext& context) const {
    const sluice::schedule::Progress progress{steps(context.total_steps), context.total_steps};
    return sluice::schedule::warmed(*this, progress.warm, [progress, end = end](std::int64_t step) {
      return end + (1.0 - end) * (1.0 + std::cos(std::numbers::pi * progress(step))) / 2.0;
    });
  }
};

}  // namespace

SLUICE_SCHEDULE(Recipe, "schedule.cosine");
