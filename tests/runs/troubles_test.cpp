// What goes wrong in a real run is told: once, on standard error and in metrics.jsonl, and the run does what it would have done.
#include <doctest/doctest.h>

#include "tests/runs/synthetic_run.hpp"

using namespace sluice::testing;

namespace {

std::int64_t count_of(const std::string& text, const std::string& what) {
  std::int64_t count = 0;
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

std::vector<std::string> about(const fs::path& run) {
  std::vector<std::string> out;
  std::ifstream file(run / "metrics.jsonl");
  for (std::string line; std::getline(file, line);)
    if (const auto row = nlohmann::json::parse(line); row["kind"] == "warning" && row.contains("about")) out.push_back(row["about"]);
  return out;
}

std::string with_mistake() {
  std::string text = synthetic_pipeline;
  const std::string network = "{ plugin = \"backbone.r3d\", depth = 10, width = 8 }";
  return text.replace(text.find(network), network.size(), "{ plugin = \"backbone.mistaken\" }");
}

}  // namespace

// Catches an operation or a segment that is not named, or another one; an index that an operation swallows in silence and the step with
// it; weights that such a step has changed; threads as without --debug. Planted: the same runs without --debug name nothing, and the one
// with a wrong target trains on.
TEST_CASE("--debug: one thread, and a step that goes wrong names its segment and its operation") {
  const ScratchFolder folder;
  const auto file = write_pipeline(folder.path(), with_mistake());
  const auto run_with = [&](const std::string& mistake, bool debug) {
    std::vector<std::string> words{"train", file, "data.train=16", "data.val=0", "run.epochs=1", "run.dir=" + mistake + (debug ? "-debug" : ""), "checkpoint.every=1", "model.backbone.mistake=" + mistake};
    if (debug) words.emplace_back("--debug");
    return run_sluice(words, folder.path());
  };
  const Finished sound = run_with("none", true);
  INFO(sound.err);
  REQUIRE(sound.code == 0);
  CHECK(sound.err.find("warning") == std::string::npos);
  CHECK(sound.out.find("1 thread for the data") != std::string::npos);
  CHECK(nlohmann::json::parse(text_of_file(newest_checkpoint(folder.path() / "none-debug") / "state.json"))["plan"]["compute_threads"] == 1);

  struct Case {
    std::string mistake, named;
    int code = 0;
  };
  for (const auto& [mistake, named, code] : std::vector<Case>{
           {"logarithm", "the first was log (segment wrong, forward) gave Float [8x8x8x24x24] with all values not finite", 4},
           {"index", "embedding (segment wrong, forward): index 12 of 10, which are 0 to 9", 3},
           {"ctc", "step 1: ctc_loss (segment wrong, forward): index 9 of 8, which are 0 to 7", 3},
           {"shape", "linear (segment wrong, forward): 24 features meet a weight for 5", 3}}) {
    CAPTURE(mistake);
    const Finished run = run_with(mistake, true);
    INFO(run.err);
    CHECK(run.code == code);
    CHECK(run.err.find(named) != std::string::npos);
    CHECK_FALSE(fs::exists(folder.path() / (mistake + "-debug") / "checkpoints/step-1"));
  }
  for (const char* mistake : {"shape", "ctc"}) {
    const Finished silent = run_with(mistake, false);
    INFO(silent.err);
    CHECK(silent.code == (std::string(mistake) == "ctc" ? 0 : 3));
    CHECK(silent.err.find("segment wrong") == std::string::npos);
    CHECK(sound.most_threads < silent.most_threads);
  }
}

// Catches ten lines for ten batches, and a run that goes on for ever with weights that will not come back.
TEST_CASE("a learning rate that destroys the weights: one warning, a row a batch, and the end after ten") {
  const ScratchFolder folder;
  const auto file = write_pipeline(folder.path(), synthetic_pipeline);
  const Finished run = run_sluice({"train", file, "optimizer.lr=1e30"}, folder.path());
  INFO(run.err);
  CHECK(run.code == 4);
  CHECK(count_of(run.err, "is not finite: such a batch updates nothing") == 1);
  CHECK(about(folder.path() / "runs/synthetic") == std::vector<std::string>{"finite"});
  CHECK(count_of(text_of_file(folder.path() / "runs/synthetic/metrics.jsonl"), "is not finite; no update") == 10);
}

// Catches a stage that takes memory beside its lease and is only met by the kernel.
TEST_CASE("a stage that hoards beside its lease is told when it passes the budget; the same run without it is silent") {
  const ScratchFolder folder;
  const auto plain = write_pipeline(folder.path(), synthetic_pipeline);
  const Finished silent = run_sluice({"train", plain, "run.epochs=1"}, folder.path());
  INFO(silent.err);
  REQUIRE(silent.code == 0);
  CHECK(count_of(silent.err, "warning") == 0);
  std::string text = synthetic_pipeline;
  text.insert(text.find("[batch]"), "[[stage]]\nplugin = \"fixture.hoarder\"\nmebibytes = 200\n");
  const auto hoards = write_pipeline(folder.path(), text, "hoards.toml");
  const Finished checked = run_sluice({"check", hoards, "--json"}, folder.path());
  REQUIRE(checked.code == 0);
  const std::uint64_t smallest = nlohmann::json::parse(checked.out)["smallest_host_ram"];
  const Finished run = run_sluice({"train", hoards, "run.name=hoards", "run.epochs=1", "budget.workers=1", "budget.host_ram=" + std::to_string(smallest + (32 << 20))}, folder.path());
  INFO(run.err);
  CHECK(run.code == 0);
  CHECK(count_of(run.err, "more than the budget of") == 1);
  const auto rows = about(folder.path() / "runs/hoards");
  REQUIRE_FALSE(rows.empty());
  CHECK(rows.back() == "budget");
}

// Catches a trainer that starves without a word, and a stage that is named although another one takes the time.
TEST_CASE("stages that cannot keep up: the run says so, and names the slowest") {
  const ScratchFolder folder;
  std::string text = synthetic_pipeline;
  const auto from = text.find("[[stage]]"), to = text.find("[batch]");
  text.replace(from, to - from, "[[stage]]\nplugin = \"synthetic.clip\"\nsize = [1536, 1536]\n[[stage]]\nplugin = \"augment.center_crop\"\nsize = [32, 32]\n");
  const auto file = write_pipeline(folder.path(), text);
  const Finished run = run_sluice({"train", file, "data.train=200", "data.val=0", "batch.size=2", "run.steps=60", "model.backbone.width=4", "budget.workers=1", "budget.compute_threads=1"}, folder.path());
  INFO(run.err << run.out);
  CHECK(run.code == 0);
  CHECK(count_of(run.err, "of the time; the slowest stage is synthetic.clip. Next: raise budget.workers") == 1);
  CHECK(about(folder.path() / "runs/synthetic") == std::vector<std::string>{"data"});
}
