// The pipelines that come with sluice learn what they claim, from files really encoded; and where nothing can be learnt, nothing is.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cmath>
#include <cstdlib>

#include "tests/runs/synthetic_run.hpp"

using namespace sluice::testing;

namespace {

// One folder of rendered videos for all cases of this program; they are made once for a build folder.
fs::path motion8_data() { return fs::path(SLUICE_BINARY_DIR) / "tests" / "data" / "motion8"; }
std::string pipeline_file(const std::string& name) { return std::string(SLUICE_SOURCE_DIR) + "/pipelines/" + name; }

double top1(const fs::path& run) {
  double accuracy = -1;
  for (const auto& text : learnt(run)) {
    const auto row = nlohmann::json::parse(text);
    if (row["kind"] == "eval") accuracy = row["numbers"]["accuracy.top1"].get<double>();
  }
  return accuracy;
}

double seconds_of(const fs::path& run) {
  double seconds = 0;
  std::ifstream file(run / "metrics.jsonl");
  for (std::string line; std::getline(file, line);)
    if (const auto row = nlohmann::json::parse(line); row["kind"] == "end") seconds = row["time"]["seconds"].get<double>();
  return seconds;
}

// Whether `accuracy` over n answers lies inside the 99 % interval of guessing among k (normal approximation of the binomial).
bool is_chance(double accuracy, double n, double k) { return std::abs(accuracy - 1 / k) <= 2.576 * std::sqrt((1 / k) * (1 - 1 / k) / n); }

Finished train(const ScratchFolder& folder, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "train");
  arguments.push_back("run.dir=" + (folder.path() / "run").string());
  return run_sluice(std::move(arguments), folder.path(), 1500);
}

}  // namespace

// Catches: a wrong colour order, crop or label map, frames in the wrong order, a schedule or an optimizer that does not do its work.
TEST_CASE("motion8 with a small r3d reaches 95 % on its validation set") {
  const ScratchFolder folder;
  const Finished run = train(folder, {pipeline_file("motion8.toml"), "data.root=" + motion8_data().string()});
  INFO(run.err << run.out);
  REQUIRE(run.code == 0);
  const double accuracy = top1(folder.path() / "run");
  MESSAGE(fmt::format("motion8: {:.4f} top-1 in {:.0f} s, {} MiB resident at the peak", accuracy, seconds_of(folder.path() / "run"), run.peak_resident >> 20));
  CHECK(accuracy >= 0.95);
  CHECK(run.peak_resident <= std::uint64_t{1536} << 20);
}

// Catches: a generator that gives the direction away in one frame, by place, colour or compression.
TEST_CASE("motion8 from single frames stays at chance") {
  const ScratchFolder folder;
  const Finished run = train(folder, {pipeline_file("motion8.toml"), "data.root=" + motion8_data().string(), "stage.dense.frames=1"});
  INFO(run.err << run.out);
  REQUIRE(run.code == 0);
  const double accuracy = top1(folder.path() / "run");
  MESSAGE(fmt::format("single frames: {:.4f}", accuracy));
  CHECK(is_chance(accuracy, 400, 8));
  CHECK_FALSE(is_chance(0.20, 400, 8));
}

// Catches: labels that reach the network by another way than the list: through names of folders, the order of files, the batch.
TEST_CASE("motion8 with shuffled labels stays at chance") {
  const ScratchFolder folder;
  const std::string names[] = {"left", "right", "up", "down", "up_left", "up_right", "down_left", "down_right"};
  for (const auto* split : {"train", "val"}) {
    std::ofstream list(folder.path() / (std::string(split) + ".csv"));
    list << "path,label\n";
    std::vector<fs::path> files;
    for (const auto& entry : fs::recursive_directory_iterator(motion8_data()))
      if (entry.path().extension() == ".mp4" && entry.path().parent_path().parent_path().filename() == split) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    REQUIRE(files.size() == (split == std::string("train") ? 1600 : 400));
    std::uint64_t state = 20261121;
    for (const auto& file : files) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      list << file.string() << "," << names[state >> 61] << "\n";
    }
  }
  std::string text = text_of_file(pipeline_file("motion8.toml"));
  const auto begin = text.find("[data]"), end = text.find("[[stage]]");
  text.replace(begin, end - begin, "[data]\nplugin = \"source.video_list\"\ntrain = \"train.csv\"\nval = \"val.csv\"\n\n");
  const Finished run = train(folder, {write_pipeline(folder.path(), text), "run.epochs=2"});
  INFO(run.err << run.out);
  REQUIRE(run.code == 0);
  const double accuracy = top1(folder.path() / "run");
  MESSAGE(fmt::format("shuffled labels: {:.4f}", accuracy));
  CHECK(is_chance(accuracy, 400, 8));
}

// Catches: pieces that are cut at wrong times, frame rates that are ignored, a decoder that gives up at the first damaged unit.
TEST_CASE("real footage: 95 % on the held-out blocks, every file read or its failure named") {
  const ScratchFolder folder;
  const fs::path data = folder.path() / "data";
  const std::string command = fmt::format("sh '{}' '{}' >'{}' 2>&1", pipeline_file("real_footage/unpack.sh"), data.string(), (folder.path() / "unpack.txt").string());
  REQUIRE(std::system(command.c_str()) == 0);
  const Finished run = train(folder, {pipeline_file("real_footage.toml"), "data.train=" + (data / "train.csv").string(), "data.val=" + (data / "val.csv").string()});
  INFO(run.err << run.out);
  REQUIRE(run.code == 0);
  const double accuracy = top1(folder.path() / "run");
  MESSAGE(fmt::format("real footage: {:.4f} in {:.0f} s, failures: {}", accuracy, seconds_of(folder.path() / "run"), text_of_file(folder.path() / "run/failures.jsonl")));
  CHECK(accuracy >= 0.95);
}

// Catches: gradients that reach the wrong chunk, a label or a random decision that differs between chunks, and a task that is no long one.
TEST_CASE("order6: the long recognizer tells the order of three flashes in 2,000 frames; 64 frames do not, in a row or spread out") {
  const auto data = fs::path(SLUICE_BINARY_DIR) / "tests" / "data" / "order6";
  const auto accuracy_of = [&](const std::vector<std::string>& overrides, const char* what) {
    const ScratchFolder folder;
    std::vector<std::string> arguments{pipeline_file("long_video.toml"), "data.root=" + data.string()};
    arguments.insert(arguments.end(), overrides.begin(), overrides.end());
    const Finished run = train(folder, arguments);
    INFO(run.err << run.out);
    REQUIRE(run.code == 0);
    const double accuracy = top1(folder.path() / "run");
    MESSAGE(fmt::format("order6, {}: {:.4f} top-1 in {:.0f} s, {} MiB resident at the peak", what, accuracy, seconds_of(folder.path() / "run"), run.peak_resident >> 20));
    return accuracy;
  };
  CHECK(accuracy_of({}, "all 2,000 frames") >= 0.90);
  CHECK(accuracy_of({"stage.0.plugin=frames.uniform", "stage.0.frames=64"}, "64 frames spread out") <= 0.50);
  CHECK(accuracy_of({"stage.0.plugin=frames.dense", "stage.0.frames=64"}, "64 frames in a row") <= 0.50);
}
