// The table at the end of a run.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "framework/base/bytes.hpp"
#include "framework/report/summary.hpp"

using namespace sluice;

TEST_CASE("the summary of a run, as a person reads it") {
  Summary summary;
  summary.outcome = "finished";
  summary.steps = 600;
  summary.clips = 9600;
  summary.seconds = 245;
  summary.seconds_training = 200;
  summary.seconds_waiting = 6;
  summary.epochs = {{0, 100, 1600, 1.91234, 41.5, {{"accuracy.top1", 0.5}}}, {1, 200, 1600, 0.71, 40.1, {{"accuracy.top1", 0.975}, {"loss", 0.1}}}};
  summary.best = BestResult{"accuracy.top1", 0.975, 200, 1};
  summary.peak[static_cast<std::size_t>(Account::activations)] = 612 * MiB;
  summary.peak[static_cast<std::size_t>(Account::base)] = 100 * MiB;
  summary.peak_resident = 1200 * MiB;
  summary.budget = 1536 * MiB;
  summary.failures = {{"moov atom not found", {2, "data/a.mp4"}}, {"the file is empty", {17, "data/\xff.mp4"}}};
  summary.places = {{"metrics", "/runs/a/metrics.jsonl"}, {"checkpoints", "/runs/a/checkpoints"}};
  CHECK(summary_text(summary) ==
        "finished: 600 steps, 9,600 clips in 4 min 05 s (48.0 clips/s in training, 3 % of it waiting for data)\n"
        "  epoch  step  clips  train loss    time  accuracy.top1  val loss\n"
        "      1   100  1,600       1.912  41.5 s            0.5\n"
        "      2   200  1,600        0.71  40.1 s          0.975       0.1\n"
        "best: accuracy.top1 0.975 at step 200 (epoch 2)\n"
        "memory: 1.17 GiB resident at the peak, 78 % of the budget of 1.50 GiB; each account at a peak of its own:\n"
        "  activations  612 MiB\n"
        "  base         100 MiB\n"
        "failed: 19 samples, listed in failures.jsonl\n"
        "  17 x  the file is empty (e.g. data/?.mp4)\n"
        "   2 x  moov atom not found (e.g. data/a.mp4)\n"
        "metrics      /runs/a/metrics.jsonl\n"
        "checkpoints  /runs/a/checkpoints\n");
}

TEST_CASE("a run of a thousand epochs and causes stays a page, and nothing divides by zero") {
  // Catches a table that scrolls the result away.
  Summary summary;
  summary.outcome = "stopped by SIGTERM";
  summary.resumed_step = 3;
  CHECK(summary_text(summary) == "stopped by SIGTERM: 0 steps (went on from 3), 0 clips in 0.0 ms\n");
  for (int i = 0; i < 1000; ++i) {
    summary.epochs.push_back({i, i + 1, 8, 1.0, 1.0, {}});
    summary.failures["cause " + std::to_string(i)] = {i + 1, "x"};
  }
  const auto text = summary_text(summary);
  CHECK(std::count(text.begin(), text.end(), '\n') < 60);
  CHECK(text.find("...") != std::string::npos);
  CHECK(text.find("   1000  1000") != std::string::npos);
  CHECK(text.find("and 980 causes more") != std::string::npos);
  CHECK(text.find("1000 x  cause 999") != std::string::npos);
}
