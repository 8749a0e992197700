// G2: a million random operations on each number of threads.
#include <doctest/doctest.h>

#include "ledger_storm.hpp"

TEST_CASE("a million random operations on 1, 2, 3 and 7 threads lose no byte and never pass the cap") {
  for (const int threads : {1, 2, 3, 7}) CHECK(sluice::testing::ledger_storm(threads, 1000000, static_cast<std::uint64_t>(threads)) == "");
}
