// Two streams of a sample: parallel branches, a join, and a series of varying length that arrives padded with its lengths.
#include <doctest/doctest.h>

#include "tests/runs/synthetic_run.hpp"

using namespace sluice::testing;

namespace {

const std::string two_streams = R"([run]
name = "two_streams"
seed = 3
epochs = 8
[plugins]
path = ["@BINARY@/tests/plugins"]
[budget]
host_ram = "512MiB"
workers = 3
compute_threads = 1
[data]
plugin = "source.synthetic"
train = 96
val = 24
streams = ["clip", "series"]
[[stage]]
plugin = "synthetic.clip"
on = ["clip"]
[[stage]]
plugin = "synthetic.series"
on = ["series"]
[[stage]]
plugin = "augment.color_jitter"
on = ["clip"]
only = "train"
brightness = 0.2
[batch]
size = 8
[model]
plugin = "model.two_stream"
input = { mean = [0.5, 0.5, 0.5], std = [0.25, 0.25, 0.25] }
[loss]
plugin = "loss.cross_entropy"
[optimizer]
plugin = "optimizer.adam"
lr = 0.02
[schedule]
plugin = "schedule.constant"
[[metric]]
plugin = "metric.accuracy"
)";

}  // namespace

// The model uses both streams of the same sample: a join that mixes samples up, or lengths that are not those of the rows, cannot learn
// the label. Catches also: padding that is not zero, and an order that depends on which branch is faster.
TEST_CASE("a pipeline of two streams learns, with the same bytes for one worker and for three") {
  const ScratchFolder folder;
  const auto file = write_pipeline(folder.path(), two_streams);
  const Finished three = run_sluice({"train", file}, folder.path());
  INFO(three.err << three.out);
  REQUIRE(three.code == 0);
  const auto rows = learnt(folder.path() / "runs/two_streams");
  REQUIRE_FALSE(rows.empty());
  const auto last = nlohmann::json::parse(rows.back());
  CHECK(last["numbers"]["accuracy.top1"].get<double>() > 0.9);
  const Finished one = run_sluice({"train", file, "budget.workers=1", "run.dir=" + (folder.path() / "one").string()}, folder.path());
  REQUIRE(one.code == 0);
  CHECK(learnt(folder.path() / "one") == rows);
  CHECK(last_weights(folder.path() / "one") == last_weights(folder.path() / "runs/two_streams"));
}

TEST_CASE("inspect shows the branches, the join and the bound of every queue") {
  const ScratchFolder folder;
  const Finished run = run_sluice({"inspect", write_pipeline(folder.path(), two_streams)}, folder.path());
  INFO(run.out << run.err);
  CHECK(run.code == 0);
  for (const auto* word : {"synthetic.clip", "synthetic.series -> sequencer", "augment.color_jitter -> sequencer"}) CHECK(run.out.find(word) != std::string::npos);
}
