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

}  // namespace

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
