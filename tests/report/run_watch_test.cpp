// The troubles of a run: each told once, none told of a run that does well.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "framework/base/bytes.hpp"
#include "framework/report/run_watch.hpp"

using namespace sluice;
using Kind = RunWatch::Kind;

namespace {

// How often each trouble began over these losses.
std::int64_t begins(RunWatch& watch, const std::vector<double>& losses, Kind kind, double waiting = 0.01) {
  std::int64_t count = 0;
  for (const double loss : losses)
    for (const auto& trouble : watch.step({loss, waiting, 1 - waiting})) {
      CHECK(trouble.text.find("Next") != std::string::npos);
      count += trouble.kind == kind ? 1 : 0;
    }
  return count;
}

// exp(-step / slope) from 2.1 down, with noise of `spread` of the value, as losses of small batches have.
std::vector<double> falling(int steps, double slope, double spread, unsigned seed, double floor = 0.0) {
  std::mt19937 random(seed);
  std::normal_distribution<double> noise(0, spread);
  std::vector<double> out;
  for (int i = 0; i < steps; ++i) out.push_back((floor + 2.1 * std::exp(-i / slope)) * std::max(0.0, 1 + noise(random)));
  return out;
}

std::vector<double> line(int steps, double from, double to) {
  std::vector<double> out;
  for (int i = 0; i < steps; ++i) out.push_back(from + (to - from) * i / steps);
  return out;
}

}  // namespace

// Catches a rule that noise sets off: 40 runs that learn, stand still or are done, with the noise of small batches.
TEST_CASE("a loss that falls, or stands still with noise, is no trouble") {
  for (unsigned seed = 0; seed < 10; ++seed) {
    RunWatch learns, still, done, slow;
    CHECK(begins(learns, falling(2000, 300, 0.5, seed, 0.2), Kind::loss) == 0);
    CHECK(begins(slow, falling(2000, 5000, 0.3, seed), Kind::loss) == 0);
    CHECK(begins(still, falling(2000, 1e9, 0.3, seed), Kind::loss) == 0);
    CHECK(begins(done, falling(2000, 60, 1.0, seed, 0.002), Kind::loss) == 0);
  }
}

// Catches a warning at every step, one that never comes again, and one that a single bad batch sets off.
TEST_CASE("a loss that rises is told once, and once more when it rises again") {
  RunWatch watch;
  CHECK(begins(watch, falling(400, 100, 0.1, 1, 0.5), Kind::loss) == 0);
  CHECK(begins(watch, {50.0}, Kind::loss) == 0);
  CHECK(begins(watch, std::vector<double>(300, 0.5), Kind::loss) == 0);
  CHECK(watch.shown().empty());
  CHECK(begins(watch, line(300, 0.5, 2.5), Kind::loss) == 1);
  CHECK(watch.shown() == "! loss rises");
  CHECK(begins(watch, std::vector<double>(500, 2.5), Kind::loss) == 0);
  CHECK(begins(watch, std::vector<double>(400, 0.4), Kind::loss) == 0);
  CHECK(watch.shown().empty());
  CHECK(begins(watch, line(300, 0.5, 2.5), Kind::loss) == 1);
}

TEST_CASE("losses below zero rise as well") {
  RunWatch watch;
  CHECK(begins(watch, line(400, 0, -10), Kind::loss) == 0);
  CHECK(begins(watch, line(400, -10, -2), Kind::loss) == 1);
}

// Catches: NaN that poisons the mean for good, a line for each of ten batches.
TEST_CASE("a loss that is not finite is told once, until fifty steps went well") {
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  RunWatch watch;
  CHECK(begins(watch, std::vector<double>(100, 1.0), Kind::finite) == 0);
  CHECK(begins(watch, {nan, infinity, 1.0, nan}, Kind::finite) == 1);
  CHECK(watch.shown() == "! not finite");
  CHECK_FALSE(watch.not_finite("gradient"));
  CHECK(begins(watch, std::vector<double>(60, 1.0), Kind::finite) == 0);
  CHECK(watch.shown().empty());
  const auto again = watch.not_finite("gradient");
  REQUIRE(again);
  CHECK(again->text.find("the gradient is not finite") == 0);
  CHECK(begins(watch, line(300, 1.0, 3.0), Kind::loss) == 1);
}

// Catches a warning for each look at a process that goes to and fro around 90 %.
TEST_CASE("memory above 90 % of the budget, with hysteresis") {
  RunWatch watch(500 * MiB);
  CHECK_FALSE(watch.memory(450 * MiB));
  const auto told = watch.memory(451 * MiB);
  REQUIRE(told);
  CHECK(told->text.find("451 MiB of the budget of 500 MiB") == 0);
  CHECK(told->text.find("budget.host_ram") != std::string::npos);
  CHECK(watch.shown() == "! memory 90 %");
  for (const std::uint64_t mib : {445, 475, 430, 455, 449, 465}) CHECK_FALSE(watch.memory(mib * MiB));
  CHECK_FALSE(watch.memory(420 * MiB));
  CHECK(watch.shown().empty());
  CHECK(watch.memory(495 * MiB));
  CHECK(watch.shown() == "! memory 99 %");
  const auto over = watch.memory(501 * MiB);  // another trouble: a budget is a promise
  REQUIRE(over);
  CHECK(over->kind == Kind::budget);
  CHECK(over->text.find("501 MiB are in use, more than the budget of 500 MiB") == 0);
  CHECK_FALSE(watch.memory(490 * MiB));
  CHECK_FALSE(watch.memory(600 * MiB));
  CHECK(watch.shown() == "! memory 120 %");
  RunWatch without;
  CHECK_FALSE(without.memory(~0ull));
}

// Catches: a slow first step that counts for ever, a stage that is named although another took the time.
TEST_CASE("a trainer that waits for more than half of the time; the slowest stage is named") {
  RunWatch watch;
  const std::vector<double> flat(60, 1.0);
  CHECK(begins(watch, {1.0}, Kind::data, 0.99) == 0);
  CHECK(begins(watch, flat, Kind::data, 0.45) == 0);
  for (int i = 0; i < 100; ++i) watch.waits_for(i % 3 == 0 ? "augment.resize" : "decode.ffmpeg");
  std::string text;
  int told = 0;
  for (int i = 0; i < 200; ++i)
    for (const auto& trouble : watch.step({1.0, 0.7, 0.3})) text = trouble.text, ++told;
  CHECK(told == 1);
  CHECK(text.find("% of the time; the slowest stage is decode.ffmpeg. Next: raise budget.workers") != std::string::npos);
  CHECK(watch.shown() == "! waits for data");
  CHECK(begins(watch, flat, Kind::data, 0.45) == 0);
  CHECK(watch.lasts(Kind::data));
  CHECK(begins(watch, flat, Kind::data, 0.1) == 0);
  CHECK_FALSE(watch.lasts(Kind::data));
  for (int i = 0; i < 2000; ++i) watch.waits_for("bytes");
  for (int i = 0; i < 60; ++i)
    for (const auto& trouble : watch.step({1.0, 0.9, 0.1})) text = trouble.text;
  CHECK(text.find("samples wait for memory. Next: raise budget.host_ram") != std::string::npos);
}
