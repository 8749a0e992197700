// The schedules against torch.optim.lr_scheduler, where PyTorch has the same, and against their formulas.
#include <cmath>

#include "oracle.hpp"
#include "training_half.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

constexpr ScheduleContext forty{40, 5};

std::unique_ptr<Schedule> schedule(const std::string& name, const std::vector<Setting>& settings, const ScheduleContext& context = forty) {
  return build<ScheduleFactory>(part("schedule." + name, settings), context);
}
std::vector<double> factors(const Schedule& schedule, std::int64_t steps = 40) {
  std::vector<double> out;
  for (std::int64_t step = 0; step < steps; ++step) out.push_back(schedule.factor(step));
  return out;
}

}  // namespace

// Catches: off by one in the warm-up, a cosine over the wrong length, a milestone a step late.
TEST_CASE("factors are those of torch.optim.lr_scheduler") {
  const auto& expected = oracle()["schedules"];
  const auto check = [&](const char* answer, const std::unique_ptr<Schedule>& made) {
    CAPTURE(answer);
    CHECK(difference(factors(*made), expected[answer].get<std::vector<double>>()) < 1e-12);
  };
  check("constant", schedule("constant", {{"warmup", 8}, {"warmup_start", 0.25}}));
  check("cosine", schedule("cosine", {{"end", 0.05}}));
  check("cosine_warm", schedule("cosine", {{"end", 0.05}, {"warmup", 0.2}, {"warmup_start", 0.25}}));
  check("linear_warm", schedule("linear", {{"end", 0.1}, {"warmup", 8}, {"warmup_start", 0.25}}));
  check("step", schedule("step", {{"every", 2}, {"gamma", 0.5}}));                                    // epochs of 5 steps
  check("step", schedule("step", {{"every", 10}, {"gamma", 0.5}, {"unit", "steps"}}));
  check("multistep", schedule("multistep", {{"milestones", std::vector<std::int64_t>{2, 5}}}));      // epochs of 5 steps
  check("multistep", schedule("multistep", {{"milestones", std::vector<double>{10, 25}}, {"unit", "steps"}}));
}

// Catches: a schedule with a memory, which a resumed run would start anew.
TEST_CASE("a factor depends on the step alone") {
  for (const char* name : {"constant", "cosine", "linear", "step"}) {
    const auto made = schedule(name, {{"warmup", 0.25}});
    const auto forwards = factors(*made);
    for (std::int64_t step = 39; step >= 0; --step) CHECK(made->factor(step) == forwards[static_cast<std::size_t>(step)]);
  }
}

// Catches: a division by zero or a factor that leaves its range where the run is shorter than its warm-up, or goes on too long.
TEST_CASE("ends and edges") {
  for (const char* name : {"constant", "cosine", "linear"})
    for (const auto& context : {ScheduleContext{0, 0}, ScheduleContext{1, 1}, ScheduleContext{10, 10}})
      for (const double warmup : {0.0, 0.5, 1.0, 10.0, 1e12}) {
        const auto made = schedule(name, {{"warmup", warmup}}, context);
        for (const std::int64_t step : {0, 1, 9, 10, 1000}) {
          CHECK(made->factor(step) >= 0.0);
          CHECK(made->factor(step) <= 1.0);
        }
      }
  CHECK(schedule("cosine", {{"end", 0.05}})->factor(40) == doctest::Approx(0.05));
  CHECK(schedule("cosine", {{"end", 0.05}})->factor(1000) == doctest::Approx(0.05));
  CHECK(schedule("linear", {{"end", 0.1}})->factor(1000) == doctest::Approx(0.1));
  CHECK(schedule("constant", {{"warmup", 4}, {"warmup_start", 0.0}})->factor(0) == 0.0);
  CHECK(schedule("constant", {{"warmup", 4}, {"warmup_start", 0.0}})->factor(4) == 1.0);
}

// Catches: a milestone in half an epoch that is lost, epochs of unknown length.
TEST_CASE("milestones in epochs and steps") {
  const auto half = schedule("multistep", {{"milestones", std::vector<double>{1.5}}, {"gamma", 0.5}}, {40, 10});
  CHECK(half->factor(14) == 1.0);
  CHECK(half->factor(15) == 0.5);
  CHECK_THROWS_WITH_AS(schedule("step", {{"every", 1}}, {40, 0}), doctest::Contains("length of an epoch is not known"), Error);
  CHECK_THROWS_AS(static_cast<void>(part("schedule.multistep", {{"milestones", std::vector<double>{5, 2}}})), Error);
  CHECK_THROWS_AS(static_cast<void>(part("schedule.multistep", {{"milestones", std::vector<double>{0}}})), Error);
}
