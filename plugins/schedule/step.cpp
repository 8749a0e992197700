// Times gamma every so many epochs or steps.
#include "milestones.hpp"
#include "warmup.hpp"

namespace {

struct Recipe : sluice::schedule::Warmup {
  static constexpr std::string_view help = "falls by a factor at even distances";
  double every = 10;
  double gamma = 0.1;
  sluice::Text unit = "epochs";
  static constexpr auto fields = std::tuple_cat(
      sluice::fields(sluice::field(&Recipe::every, "every", "distance between falls, in `unit`", sluice::above(0)),
                     sluice::field(&Recipe::gamma, "gamma", "factor of a fall", sluice::above(0)),
                     sluice::field(&Recipe::unit, "unit", "what `every` counts", sluice::one_of("epochs|steps"))),
      warmup_fields);
  std::unique_ptr<sluice::Schedule> build(const sluice::ScheduleContext& context) const {
    const auto distance = sluice::schedule::to_step(every, unit == "epochs", context);
    return sluice::schedule::warmed(*this, steps(context.total_steps),
                                    [distance, gamma = gamma](std::int64_t step) { return std::pow(gamma, static_cast<double>(step / distance)); });
  }
};

}  // namespace

SLUICE_SCHEDULE(Recipe, "schedule.step");
