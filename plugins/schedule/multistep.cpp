// Times gamma at each milestone.
#include <algorithm>
#include <vector>

#include "milestones.hpp"
#include "warmup.hpp"

namespace {

struct Recipe : sluice::schedule::Warmup {
  static constexpr std::string_view help = "falls by a factor at each milestone";
  std::vector<double> milestones;
  double gamma = 0.1;
  sluice::Text unit = "epochs";
  static constexpr auto fields = std::tuple_cat(
      sluice::fields(sluice::field(&Recipe::milestones, "milestones", "when it falls, in `unit`, increasing, e.g. [12, 16]", sluice::required),
                     sluice::field(&Recipe::gamma, "gamma", "factor of a fall", sluice::above(0)),
                     sluice::field(&Recipe::unit, "unit", "what `milestones` count", sluice::one_of("epochs|steps"))),
      warmup_fields);

  void check() const {
    for (std::size_t i = 0; i < milestones.size(); ++i)
      if (!(milestones[i] > (i == 0 ? 0.0 : milestones[i - 1])))
        throw sluice::Error(sluice::Code::configuration, "milestones must be above 0 and increase", "e.g. milestones = [12, 16]");
  }
  std::unique_ptr<sluice::Schedule> build(const sluice::ScheduleContext& context) const {
    check();
    std::vector<std::int64_t> places;
    for (const auto place : milestones) places.push_back(sluice::schedule::to_step(place, unit == "epochs", context));
    return sluice::schedule::warmed(*this, steps(context.total_steps), [places, gamma = gamma](std::int64_t step) {
      return std::pow(gamma, static_cast<double>(std::upper_bound(places.begin(), places.end(), step) - places.begin()));
    });
  }
};

}  // namespace

SLUICE_SCHEDULE(Recipe, "schedule.multistep");
