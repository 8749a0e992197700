// A plugin of the training half that compiles in seconds: install_test.sh builds it with a right and a wrong LibTorch.
#include <sluice/torch/plugin.hpp>

#include <cmath>

namespace {

struct Halving : sluice::Schedule {
  double factor(std::int64_t step) const override { return std::exp2(-static_cast<double>(step)); }
};
struct Recipe {
  static constexpr auto fields = sluice::fields();
  std::unique_ptr<sluice::Schedule> build(const sluice::ScheduleContext&) const { return std::make_unique<Halving>(); }
};

}  // namespace

SLUICE_SCHEDULE(Recipe, "schedule.halving");
