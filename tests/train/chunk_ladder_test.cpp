// What is tried when chunks run out of memory, and when the planned ones come back.
#include "framework/train/chunk_ladder.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <optional>
#include <vector>

using namespace sluice;

namespace {

// A failure at each of the places, and what was tried after it; 0: nothing.
std::vector<std::int64_t> tried(ChunkLadder& ladder, const std::vector<std::int64_t>& places) {
  std::vector<std::int64_t> out;
  for (const auto place : places) {
    const auto frames = ladder.below(place);
    out.push_back(frames.value_or(0));
    if (frames) ladder.failed(place, *frames);
  }
  return out;
}

// Clean steps until the planned chunk is tried again.
int steps_until_it_climbs(ChunkLadder& ladder, std::uint64_t room) {
  for (int steps = 0; steps < 1000; ++steps, ladder.step_went_well())
    if (ladder.above(room)) return ladder.climbed(), steps;
  return -1;
}

}  // namespace

// Mistakes caught: a chunk that is made smaller before the same was tried once more, one that is no multiple of the stride, one below what
// is worth it, one that is pinned and changes.
TEST_CASE("the same once more at each place, then halves") {
  ChunkLadder ladder({.planned = 64});
  CHECK(tried(ladder, {3, 3, 3, 7, 7, 7, 7, 7}) == std::vector<std::int64_t>{64, 32, 16, 16, 8, 4, 0, 0});
  ChunkLadder coarse({.planned = 48, .stride = 8});
  CHECK(tried(coarse, {1, 1, 1, 1}) == std::vector<std::int64_t>{48, 24, 8, 0});
  ChunkLadder pinned({.planned = 64, .pinned = true});
  CHECK(tried(pinned, {1, 1, 2, 2}) == std::vector<std::int64_t>{64, 0, 64, 0});
  CHECK_FALSE(pinned.reduced());
}

// Mistakes caught: a small chunk that stays although there is room, a climb where there is none, a failed step every twenty for the rest of
// the run, patience that grows with each cut although the chunk lasted between them.
TEST_CASE("the planned chunk comes back after 20 clean steps where it fits, after 40 where that did not last") {
  ChunkLadder ladder({.planned = 64, .needs = 1000});
  CHECK(steps_until_it_climbs(ladder, 5000) == -1);  // there is nothing above
  static_cast<void>(tried(ladder, {5, 5, 5}));
  REQUIRE(ladder.frames() == 16);
  CHECK(steps_until_it_climbs(ladder, 999) == -1);
  CHECK(ladder.above(1000) == std::optional<std::int64_t>(64));
  ladder.climbed();
  for (int i = 0; i < 30; ++i) ladder.step_went_well();
  static_cast<void>(tried(ladder, {40, 40}));  // another cut, much later
  CHECK(steps_until_it_climbs(ladder, 1000) == 20);
  for (const int patience : {40, 80}) {
    ladder.step_went_well();  // one, and it fails again
    static_cast<void>(tried(ladder, {100 + patience, 100 + patience}));
    CHECK(ladder.frames() == 32);
    CHECK(steps_until_it_climbs(ladder, 1000) == patience);
  }
}

// A failure starts the count anew, also one after which the same went through.
TEST_CASE("steps count as clean since the last failure") {
  ChunkLadder ladder({.planned = 64, .clean_steps = 3});
  static_cast<void>(tried(ladder, {1, 1}));
  ladder.step_went_well();
  ladder.step_went_well();
  CHECK(tried(ladder, {3}) == std::vector<std::int64_t>{32});
  CHECK(steps_until_it_climbs(ladder, 0) == 3);
}

// Mistakes caught: a resumed run that counts anew, one that takes what the pipeline does not allow.
TEST_CASE("a ladder goes on from a checkpoint's") {
  ChunkLadder ladder({.planned = 64});
  CHECK_FALSE(ladder.state().has_value());
  static_cast<void>(tried(ladder, {1, 1}));
  for (int i = 0; i < 7; ++i) ladder.step_went_well();
  const auto state = ladder.state();
  REQUIRE(state.has_value());
  ChunkLadder resumed({.planned = 64});
  CHECK(resumed.restore(*state));
  CHECK(resumed.frames() == 32);
  CHECK(resumed.state() == state);
  CHECK(steps_until_it_climbs(resumed, 0) == 13);
  ChunkLadder pinned({.planned = 64, .pinned = true});
  CHECK_FALSE(pinned.restore(*state));
  CHECK(pinned.frames() == 64);
  ChunkLadder coarse({.planned = 60, .stride = 5});
  CHECK_FALSE(coarse.restore(*state));
}
