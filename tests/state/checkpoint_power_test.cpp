// The power goes at random moments. What was reported as saved is there, and it is right.
#include <doctest/doctest.h>

#include <random>
#include <string>

#include "checkpoint_content.hpp"
#include "framework/state/checkpoint.hpp"
#include "framework/state/files.hpp"
#include "simulated_disk.hpp"

#include <sluice/error.hpp>

using namespace sluice;
using sluice::testing::KnownContent;
using sluice::testing::PowerCut;
using sluice::testing::SimulatedDisk;

namespace {

struct Defects {
  bool ignore_file_sync = false;
  bool ignore_folder_sync = false;
};

// A run of six saves; the power goes in it, or not at all. Returns what is wrong with what is found afterwards, empty if nothing.
std::string run_and_cut(std::uint64_t seed, Defects defects, bool& was_cut) {
  std::mt19937_64 random(seed);
  const auto keep = static_cast<std::int64_t>(random() % 3 + 1);
  const auto cut = static_cast<std::int64_t>(random() % 420 + 1);
  SimulatedDisk disk;
  disk.no_exchange = random() % 4 == 0;
  disk.ignore_file_sync = defects.ignore_file_sync;
  disk.ignore_folder_sync = defects.ignore_folder_sync;
  disk.cut_power_at(cut);
  std::int64_t durable = 0, begun = 0, best_durable = 0, best_begun = 0;
  was_cut = true;
  try {
    CheckpointStore store("run/checkpoints", {.keep = keep}, disk);
    for (std::int64_t step = 1; step <= 6; ++step) {
      const bool best = random() % 3 == 0;
      begun = step;
      if (best) best_begun = step;
      store.save(KnownContent(step, seed).content(), {.best = best});
      durable = step;
      if (best) best_durable = step;
    }
    was_cut = false;
  } catch (const PowerCut&) {
  }

  SimulatedDisk after = disk.after_power_cut(seed + 1);
  CheckpointStore store("run/checkpoints", {.keep = keep}, after);
  const auto found = store.newest();
  if (!found.refused.empty()) return "refused: " + found.refused[0].why;
  if (!found.checkpoint) return durable == 0 ? "" : "nothing found, though step " + std::to_string(durable) + " was saved";
  const auto step = found.checkpoint->step();
  if (step != durable && step != begun) return "found step " + std::to_string(step) + ", saved was " + std::to_string(durable);
  if (const auto text = KnownContent(step, seed).difference(*found.checkpoint); !text.empty()) return "wrong " + text;
  try {
    const auto best = store.best();
    const auto best_step = best ? best->step() : 0;
    if (best_step != best_durable && best_step != best_begun) return "best is step " + std::to_string(best_step);
    if (best) {
      if (const auto text = KnownContent(best_step, seed).difference(*best); !text.empty()) return "wrong " + text + " in best";
    }
  } catch (const Error& error) {
    return std::string("best: ") + error.what();
  }
  store.continue_from(step);
  store.save(KnownContent(step + 1, seed).content());
  const auto next = store.newest();
  if (!next.checkpoint || !KnownContent(step + 1, seed).difference(*next.checkpoint).empty()) return "cannot go on";
  return {};
}

struct Tally {
  int cuts = 0, wrong = 0;
  std::string first;
};
Tally run_many(int trials, Defects defects) {
  Tally tally;
  for (int i = 0; i < trials; ++i) {
    const auto seed = static_cast<std::uint64_t>(i) * 7919 + 1;
    bool was_cut = false;
    const auto text = run_and_cut(seed, defects, was_cut);
    tally.cuts += was_cut;
    if (text.empty()) continue;
    if (tally.wrong++ == 0) tally.first = "seed " + std::to_string(seed) + ": " + text;
  }
  return tally;
}

}  // namespace

// Catches a missing fsync of a file, of the folder, of its parent, and a prune before the new one is durable.
TEST_CASE("power cuts: the newest saved or the one being saved, with the right values") {
  const auto tally = run_many(2500, {});
  INFO(tally.first);
  CHECK(tally.wrong == 0);
  CHECK(tally.cuts >= 2000);
}

TEST_CASE("10,000 power cuts" * doctest::test_suite("full") * doctest::skip()) {
  const auto tally = run_many(13000, {});
  MESSAGE(tally.cuts << " cuts, " << tally.wrong << " wrong");
  INFO(tally.first);
  CHECK(tally.wrong == 0);
  CHECK(tally.cuts >= 10000);
}

TEST_CASE("planted: files renamed without fsync are found out") {
  const auto tally = run_many(300, {.ignore_file_sync = true});
  MESSAGE(tally.wrong << " of 300 runs show it; first: " << tally.first);
  CHECK(tally.wrong > 10);
}

TEST_CASE("planted: the old one deleted before the new name is durable is found out") {
  const auto tally = run_many(300, {.ignore_folder_sync = true});
  MESSAGE(tally.wrong << " of 300 runs show it; first: " << tally.first);
  CHECK(tally.wrong > 10);
}

TEST_CASE("a file replaced by write_file is the old or the new one, whenever the power goes") {
  // Catches truncation in place and a rename before the fsync.
  const std::string old_text(3000, 'o'), new_text(5000, 'n');
  int cuts = 0;
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    SimulatedDisk disk;
    write_file(disk, "file", old_text);
    disk.cut_power_at(static_cast<std::int64_t>(seed % 12 + 1));
    bool done = true;
    try {
      write_file(disk, "file", new_text);
    } catch (const PowerCut&) {
      done = false;
      ++cuts;
    }
    SimulatedDisk after = disk.after_power_cut(seed);
    const auto text = read_file(after, "file", 10000);
    CAPTURE(seed);
    CHECK((text == new_text || (!done && text == old_text)));
  }
  CHECK(cuts > 1000);
}
