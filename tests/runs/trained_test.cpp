// What is done with a trained model: eval and predict, on real videos, against what the training itself said.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <sstream>

#include <nlohmann/json.hpp>

#include "tests/runs/synthetic_run.hpp"

using namespace sluice::testing;

namespace {

// Two kinds of videos that a few steps tell apart, and a small model trained on them.
struct Trained {
  ScratchFolder folder;
  fs::path pipeline;

  Trained() {
    for (int i = 0; i < 6; ++i) {
      make("videos/red/" + std::to_string(i) + ".mp4", "color=red:size=64x64:rate=10:duration=" + std::to_string(2 + i % 2) + ",noise=alls=" + std::to_string(10 + i));
      make("videos/blue/" + std::to_string(i) + ".mp4", "color=blue:size=64x64:rate=10:duration=2,noise=alls=" + std::to_string(10 + i));
    }
    std::ofstream(folder.path() / "videos/red/broken.mp4") << "no video";
    pipeline = write_pipeline(folder.path(), R"([run]
seed = 3
epochs = 20
device = "cpu"
[budget]
host_ram = "1GiB"
[data]
plugin = "source.video_list"
path = "videos"
split = 0.66
[[stage]]
plugin = "frames.uniform"
frames = 4
[[stage]]
plugin = "decode.ffmpeg"
size = [32, 32]
[batch]
size = 4
[model]
plugin = "model.recognizer"
input = { mean = [0.5, 0.5, 0.5], std = [0.25, 0.25, 0.25] }
backbone = { plugin = "backbone.r3d", depth = 10, width = 8 }
head = { plugin = "head.linear" }
[loss]
plugin = "loss.cross_entropy"
[optimizer]
plugin = "optimizer.adamw"
lr = 0.01
[[metric]]
plugin = "metric.accuracy"
)");
    const Finished run = run_sluice({"train", pipeline, "run.dir=run", "run.max_failures=1"}, folder.path());
    INFO(run.err);
    REQUIRE(run.code == 0);
  }
  void make(const std::string& name, const std::string& source) const {
    fs::create_directories((folder.path() / name).parent_path());
    REQUIRE(std::system(("ffmpeg -v error -f lavfi -i '" + source + "' -c:v libx264 -preset ultrafast -pix_fmt yuv420p '" + (folder.path() / name).string() + "' </dev/null").c_str()) == 0);
  }
  Finished operator()(std::vector<std::string> words) const {
    words.insert(words.begin() + 1, pipeline);
    words.insert(words.end(), {"run.dir=run", "run.max_failures=1"});
    return run_sluice(words, folder.path());
  }
};

const Trained& trained_once() {
  static const Trained trained;
  return trained;
}

std::vector<nlohmann::json> lines_of(const std::string& text) {
  std::vector<nlohmann::json> rows;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) rows.push_back(nlohmann::json::parse(line));
  return rows;
}

}  // namespace

// Catches: another split, other frames or another model than the training's evaluation had.
TEST_CASE("eval says of a checkpoint what the training said of it; predict labels videos, each as if it were alone") {
  const Trained& trained = trained_once();
  const Finished evaluated = trained({"eval", "--json"});
  INFO(evaluated.err);
  REQUIRE(evaluated.code == 0);
  const auto now = nlohmann::json::parse(evaluated.out);
  nlohmann::json then;
  for (const auto& line : lines_of(text_of_file(trained.folder.path() / "run/metrics.jsonl")))
    if (line["kind"] == "eval" && line["step"] == now["step"]) then = line;
  REQUIRE(!then.is_null());
  CHECK(now["metrics"] == then["numbers"]);
  CHECK(now["metrics"]["accuracy.top1"] == 1.0);

  const Finished one = trained({"predict", "--json", "--video", "videos/red/0.mp4"});
  INFO(one.err);
  REQUIRE(one.code == 0);
  const auto alone = lines_of(one.out);
  REQUIRE(alone.size() == 1);
  CHECK(alone[0]["video"] == "videos/red/0.mp4");
  CHECK(alone[0]["labels"][0]["label"] == "red");
  double sum = 0;
  for (const auto& label : alone[0]["labels"]) sum += label["probability"].get<double>();
  CHECK(sum == doctest::Approx(1));

  const Finished several = trained({"predict", "--json", "--video", "videos/blue/1.mp4", "videos/red/broken.mp4", "videos/red/0.mp4", "videos/red/3.mp4", "videos/blue/4.mp4", "videos/blue/5.mp4"});
  CHECK(several.code == 4);  // one of them is broken
  int labelled = 0;
  for (const auto& row : lines_of(several.out)) {
    const std::string video = row["video"];
    if (video == "videos/red/broken.mp4") {
      CHECK(row.contains("error"));
      continue;
    }
    ++labelled;
    CHECK(row["labels"][0]["label"] == (video.find("red") != std::string::npos ? "red" : "blue"));
    if (video == "videos/red/0.mp4") CHECK(std::fabs(row["labels"][0]["probability"].get<double>() - alone[0]["labels"][0]["probability"].get<double>()) < 1e-5);
  }
  CHECK(labelled == 5);
}

// Catches: a number that is named for what a training would need, or leaves out what an evaluation does.
TEST_CASE("the least budget that a refused eval names is enough for it") {
  const Trained& trained = trained_once();
  const std::vector<std::string> large{"batch.size=64", "stage.ffmpeg.size=[96,96]"};
  const auto eval_in = [&](std::uint64_t bytes) {
    std::vector<std::string> words{"eval", "budget.host_ram=" + std::to_string(bytes)};
    words.insert(words.end(), large.begin(), large.end());
    return trained(words);
  };
  const Finished refused = eval_in(64 << 20);
  CHECK(refused.code == 2);
  const auto at = refused.err.find("(at least ");
  REQUIRE(at != std::string::npos);
  const std::uint64_t least = std::stoull(refused.err.substr(at + 10));
  const Finished enough = eval_in(least);
  INFO(enough.err);
  CHECK(enough.code == 0);
  CHECK(enough.peak_resident <= least);
}

// Catches: a batch of the pipeline that is weighed for a single video.
TEST_CASE("one video is predicted within a budget that holds no batch") {
  const Trained& trained = trained_once();
  const std::vector<std::string> large{"batch.size=256", "stage.ffmpeg.size=[96,96]"};
  const auto with = [&](std::vector<std::string> words) {
    words.insert(words.end(), large.begin(), large.end());
    return trained(words);
  };
  const Finished batch = with({"check", "--json", "run.steps=1", "eval.microbatch=256"});
  INFO(batch.err);
  REQUIRE(batch.code == 0);
  const std::uint64_t whole = nlohmann::json::parse(batch.out)["smallest_host_ram"];
  // That budget is too small for such a batch.
  CHECK(with({"check", "run.steps=1", "eval.microbatch=256", "budget.host_ram=" + std::to_string(whole / 2)}).code == 2);
  // An evaluation takes no more at once than there is to evaluate.
  CHECK(with({"eval", "eval.microbatch=256", "budget.host_ram=" + std::to_string(whole / 2)}).code == 0);
  const Finished one = with({"predict", "--json", "eval.microbatch=256", "budget.host_ram=" + std::to_string(whole / 2), "--video", "videos/red/0.mp4"});
  INFO(one.err);
  CHECK(one.code == 0);
  CHECK(one.peak_resident <= whole / 2);
}
