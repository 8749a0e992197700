// What is kept of measured times, and what is made of it.
#include "framework/train/step_times.hpp"

#include <doctest/doctest.h>

#include "tests/support/scratch_folder.hpp"

using namespace sluice;
using sluice::testing::ScratchFolder;

// Catches times that are lost, taken for another configuration, or read from a file that is damaged.
TEST_CASE("step times come back for the same key alone") {
  const ScratchFolder folder;
  StepTimes times(folder.path(), "key");
  CHECK_FALSE(times.plain(4));
  times.add(4, {}, 0.5);
  times.add(4, {true, {}}, 0.7);
  times.add(4, {{}, {true, {}}}, 0.55);
  times.add(8, {false, {"stem"}}, 0.1);  // a part of the segments: neither the one nor the other
  times.add(8, {{true, {}}, {false, {"stem"}}}, 0.1);
  times.add_segments({{"stem", 0.03}, {"layer1", 0.01}});
  times.remember();
  const StepTimes again(folder.path(), "key");
  CHECK(again.plain(4) == doctest::Approx(0.5));
  CHECK(again.twice() == doctest::Approx(0.4));
  CHECK(again.move() == doctest::Approx(0.1));
  CHECK(again.segments().size() == 2);
  CHECK(again.segments().at("stem") == doctest::Approx(0.03));
  CHECK_FALSE(again.plain(8));
  // Seconds that no segment takes: a damaged file, in which bytes count again.
  StepTimes damaged(folder.path(), "damaged");
  damaged.add(4, {}, 0.5);
  damaged.add_segments({{"stem", 1e308}, {"layer1", 0.01}});
  damaged.remember();
  CHECK(StepTimes(folder.path(), "damaged").segments().empty());
  CHECK_FALSE(StepTimes(folder.path(), "other key").plain(4));
  CHECK_FALSE(StepTimes({}, "key").plain(4));
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) std::filesystem::resize_file(entry.path(), 20);
  CHECK_FALSE(StepTimes(folder.path(), "key").plain(4));
}

// Catches an interpolation that is not linear in the number of passes, and one that goes beyond what was measured.
TEST_CASE("between two measured microbatches the time follows the number of passes") {
  StepTimes times;
  // 12 clips: 0.1 s a pass and 1 s beside them.
  for (const std::int64_t microbatch : {12, 2}) times.add(microbatch, {}, 1 + 0.1 * static_cast<double>(12 / microbatch));
  for (const std::int64_t microbatch : {3, 4, 6}) CHECK(times.plain(microbatch) == doctest::Approx(1 + 0.1 * static_cast<double>(12 / microbatch)));
  CHECK_FALSE(times.plain(1));
  CHECK_FALSE(times.plain(13));
  CHECK(times.twice() == doctest::Approx(1.0 / 3));
  CHECK(times.move() == doctest::Approx(0.07));
}
