// What a run learns does not depend on workers, on the budget, or on how often it was killed.
#include <doctest/doctest.h>

#include <cstdlib>
#include <random>

#include "tests/runs/synthetic_run.hpp"

using namespace sluice::testing;

namespace {

struct Result {
  std::string weights;
  std::vector<std::string> rows;
  double seconds = 0;
};

Result train(const ScratchFolder& folder, const std::vector<std::string>& overrides) {
  static int count = 0;
  const auto run = folder.path() / ("run" + std::to_string(++count));
  std::vector<std::string> arguments = {"train", write_pipeline(folder.path(), synthetic_pipeline), "run.dir=" + run.string()};
  arguments.insert(arguments.end(), overrides.begin(), overrides.end());
  const Finished finished = run_sluice(arguments, folder.path());
  INFO(finished.err);
  REQUIRE(finished.code == 0);
  return {last_weights(run), learnt(run), finished.seconds};
}

}  // namespace

// Catches: random numbers taken in the order of threads, batches put together in the order of arrival, statistics that depend on
// how much memory is there. The planted defect, another seed, shows that the comparison can fail.
TEST_CASE("weights and losses are bit-equal for workers 1, 2, 3, 7 and for two budgets") {
  const ScratchFolder folder;
  const Result first = train(folder, {"budget.workers=1"});
  CHECK(first.rows.size() == 27 + 3);
  for (const auto& overrides : std::vector<std::vector<std::string>>{{"budget.workers=2"}, {"budget.workers=3"}, {"budget.workers=7"}, {"budget.host_ram=240MiB"}}) {
    const Result other = train(folder, overrides);
    INFO(overrides[0]);
    CHECK(other.weights == first.weights);
    CHECK(other.rows == first.rows);
  }
  // Variables that would give OpenMP fewer threads than the budget: LibTorch waited for the others for ever.
  for (const char* name : {"OMP_THREAD_LIMIT", "OMP_DYNAMIC", "OMP_NUM_THREADS"}) {
    CAPTURE(name);
    setenv(name, std::string(name) == "OMP_DYNAMIC" ? "true" : "1", 1);
    CHECK(train(folder, {}).weights == first.weights);
    unsetenv(name);
  }
  const Result another = train(folder, {"run.seed=8"});
  CHECK(another.weights != first.weights);
}

// Catches: a cursor that repeats or skips a batch, optimizer state or random numbers that are not restored, rows written twice,
// a checkpoint that was not whole when the process died.
TEST_CASE("kill -9 at 20 random moments and resume: bit-equal weights and loss log") {
  const ScratchFolder folder;
  const Result straight = train(folder, {});
  const auto run = folder.path() / "killed";
  const std::vector<std::string> command = {"train", write_pipeline(folder.path(), synthetic_pipeline), "run.dir=" + run.string(), "--resume"};
  std::mt19937 random(20261121);
  int kills = 0, resumed = 0;
  for (int attempt = 0; attempt < 200; ++attempt) {
    SluiceProcess process(command, folder.path());
    // From the start of the process up to some steps further than the last time; on a busy machine later.
    const double moment = std::uniform_real_distribution<double>(0.1, 0.85)(random) * straight.seconds;
    while (process.look() && process.seconds() < moment) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (kills < 20 && process.look()) {
      process.kill(SIGKILL);
      const Finished killed = process.wait(10);
      if (killed.signal == SIGKILL) ++kills;
      if (killed.out.find("going on from step") != std::string::npos) ++resumed;
      continue;
    }
    const Finished finished = process.wait(300);
    INFO(finished.err);
    REQUIRE(finished.code == 0);
    CHECK(last_weights(run) == straight.weights);
    CHECK(learnt(run) == straight.rows);
    if (kills >= 20) break;
    fs::remove_all(run);  // it was done before the 20 kills were had: once more
  }
  CHECK(kills == 20);
  CHECK(resumed >= 3);
  MESSAGE("of 20 killed runs, " << resumed << " had been resumed");
}

TEST_CASE("--resume with nothing there starts afresh and says so; a finished run is left as it is") {
  const ScratchFolder folder;
  const auto file = write_pipeline(folder.path(), synthetic_pipeline);
  const Finished first = run_sluice({"train", file, "--resume", "run.epochs=1"}, folder.path());
  CHECK(first.code == 0);
  CHECK((first.out + first.err).find("starting afresh") != std::string::npos);
  const auto weights = last_weights(folder.path() / "runs/synthetic");
  const Finished again = run_sluice({"train", file, "--resume", "run.epochs=1"}, folder.path());
  CHECK(again.code == 0);
  CHECK((again.out + again.err).find("done already") != std::string::npos);
  CHECK(last_weights(folder.path() / "runs/synthetic") == weights);
}

// Catches: a signal that ends the process in the middle of a step, or one that is taken for an error.
TEST_CASE("SIGINT and SIGTERM save and leave; the resumed run is as if nothing had been") {
  const ScratchFolder folder;
  const Result straight = train(folder, {});
  for (const int signal : {SIGINT, SIGTERM}) {
    const auto run = folder.path() / ("signal" + std::to_string(signal));
    const std::vector<std::string> command = {"train", write_pipeline(folder.path(), synthetic_pipeline), "run.dir=" + run.string(), "--resume"};
    SluiceProcess process(command, folder.path());
    while (process.look() && text_of_file(run / "metrics.jsonl").find("\"step\":5,") == std::string::npos) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    process.kill(signal);
    const Finished stopped = process.wait(120);
    INFO(stopped.err);
    CHECK(stopped.code == 128 + signal);
    CHECK(stopped.out.find("stopped by") != std::string::npos);
    const Finished finished = run_sluice(command, folder.path());
    CHECK(finished.code == 0);
    CHECK(last_weights(run) == straight.weights);
    CHECK(learnt(run) == straight.rows);
  }
}

TEST_CASE("two runs in one folder: the second is refused and names the first") {
  const ScratchFolder folder;
  const auto file = write_pipeline(folder.path(), synthetic_pipeline);
  const fs::path other = folder.path() / "other";
  fs::create_directory(other);
  const std::string dir = "run.dir=" + (folder.path() / "run").string();
  SluiceProcess first({"train", file, dir, "run.epochs=200"}, folder.path());
  while (first.look() && !fs::exists(folder.path() / "run/metrics.jsonl")) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  const Finished second = run_sluice({"train", file, dir}, other);
  first.kill(SIGKILL);
  INFO(second.err);
  CHECK(second.code == 2);
  CHECK(second.err.find("another run is working in this folder: process") != std::string::npos);
  first.wait(10);
}

// Catches: checkpoints of one run in the folder of another, which took its name after it was renamed, and those of that one deleted.
TEST_CASE("a run whose folder was renamed ends, and the run that took the name keeps its own") {
  const ScratchFolder folder;
  const auto file = write_pipeline(folder.path(), synthetic_pipeline);
  const fs::path dir = folder.path() / "run";
  SluiceProcess first({"train", file, "run.dir=" + dir.string(), "run.epochs=200", "checkpoint.every=9"}, folder.path());
  while (first.look() && !fs::exists(dir / "checkpoints/step-9")) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  first.kill(SIGSTOP);  // in between there is no folder of that name, which ends a run as well
  fs::rename(dir, folder.path() / "moved");
  const Finished second = run_sluice({"train", file, "run.dir=" + dir.string(), "run.epochs=1", "run.seed=8"}, folder.path());
  first.kill(SIGCONT);
  const Finished ended = first.wait(60);
  CHECK(second.code == 0);
  INFO(ended.err);
  CHECK(ended.code == 5);
  CHECK(ended.err.find("this is no longer the folder in which the run began") != std::string::npos);
  CHECK(nlohmann::json::parse(text_of_file(newest_checkpoint(dir) / "state.json"))["seed"] == 8);
}
