// Durations as text.
#include "framework/base/clock.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <string>

using namespace sluice;

// Catches rounding that carries wrongly, "1 min 60 s".
TEST_CASE("durations") {
  const std::pair<double, const char*> cases[] = {{0, "0.0 ms"},           {0.0004, "0.4 ms"},     {0.32, "320 ms"},         {0.9996, "1.0 s"},       {3.2, "3.2 s"},
                                                  {59.94, "59.9 s"},       {59.96, "1 min 00 s"},  {119.6, "2 min 00 s"},    {245, "4 min 05 s"},     {3599.7, "1 h 00 min"},
                                                  {48000, "13 h 20 min"},  {273600, "3 d 04 h"},   {-1, "?"},                {NAN, "?"},              {INFINITY, "?"}};
  for (const auto& [seconds, text] : cases) {
    CAPTURE(seconds);
    CHECK(format_duration(seconds) == text);
  }
}

TEST_CASE("the time of day is UTC in ISO 8601") {
  const std::string now = utc_now();
  CHECK(now.size() == 20);
  CHECK(now[10] == 'T');
  CHECK(now.back() == 'Z');
}
