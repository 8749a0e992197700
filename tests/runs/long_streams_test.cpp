// Two long videos a sample, in chunks: what is learnt, and what is said of the checkpoint, are those of whole clips.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <random>

#include "tests/runs/long_run.hpp"

using namespace sluice::testing;

namespace {

// The second video is another scene of the same class, of another size and with other keyframes, so that nothing of it is in the first.
const std::string two_views = R"([run]
name = "two_views"
seed = 7
epochs = 2
device = "cpu"
max_failures = 3
[plugins]
path = ["@BINARY@/tests/plugins"]
[budget]
host_ram = "1GiB"
workers = 2
compute_threads = 2
[data]
plugin = "source.video_list"
train = "train.csv"
val = "val.csv"
videos = ["clip", "depth"]
[[stage]]
plugin = "frames.all"
on = ["clip", "depth"]
[[stage]]
plugin = "decode.ffmpeg"
on = ["clip", "depth"]
[[stage]]
plugin = "augment.random_crop"
on = ["clip"]
only = "train"
size = [28, 28]
[[stage]]
plugin = "augment.center_crop"
on = ["clip"]
only = "eval"
size = [28, 28]
[[stage]]
plugin = "augment.random_crop"
on = ["depth"]
only = "train"
size = [16, 16]
[[stage]]
plugin = "augment.center_crop"
on = ["depth"]
only = "eval"
size = [16, 16]
[[stage]]
plugin = "augment.color_jitter"
on = ["clip"]
only = "train"
brightness = 0.3
[batch]
size = 4
[model]
plugin = "model.two_views"
input = { mean = [0.5, 0.5, 0.5], std = [0.25, 0.25, 0.25] }
[loss]
plugin = "loss.cross_entropy"
[optimizer]
plugin = "optimizer.sgd"
lr = 0.3
[[metric]]
plugin = "metric.accuracy"
)";

// Makes both sets of videos, and the lists that pair them.
void make_pairs(const fs::path& folder) {
  std::string text = long_pipeline;
  const auto file = write_pipeline(folder, text, "videos.toml");
  for (const auto* change : {"data.root=clips", "data.root=depths"}) {
    std::vector<std::string> words{"check", file, change};
    if (std::string(change) == "data.root=depths") words.insert(words.end(), {"data.size=24", "data.seed=11", "data.gop=17", "stage.2.size=[16,16]", "stage.3.size=[16,16]"});
    const Finished made = run_sluice(words, folder);
    INFO(made.err);
    REQUIRE(made.code == 0);
  }
  const auto videos = [&](const fs::path& root) {
    std::vector<fs::path> found;
    for (const auto& entry : fs::recursive_directory_iterator(root))
      if (entry.path().extension() == ".mp4") found.push_back(entry.path());
    std::sort(found.begin(), found.end());
    return found;
  };
  const auto clips = videos(folder / "clips"), depths = videos(folder / "depths");
  REQUIRE(clips.size() == 14);
  REQUIRE(depths.size() == 14);
  std::ofstream train(folder / "train.csv"), val(folder / "val.csv");
  for (auto* list : {&train, &val}) *list << "clip,depth,label\n";
  for (std::size_t i = 0; i < clips.size(); ++i) {
    REQUIRE(clips[i].filename() == depths[i].filename());
    const auto label = clips[i].parent_path().filename().string();
    (clips[i].parent_path().parent_path().filename() == "train" ? train : val) << clips[i].string() << "," << depths[i].string() << "," << label << "\n";
  }
}

nlohmann::json evaluated(const ScratchFolder& folder, const Result& trained, const std::string& chunk) {
  const Finished run = run_sluice({"eval", write_pipeline(folder.path(), two_views), "run.dir=" + trained.run.string(), chunk, "eval.microbatch=1", "--json"}, folder.path());
  INFO(run.err);
  REQUIRE(run.code == 0);
  return nlohmann::json::parse(run.out);
}

}  // namespace

// Catches: a second stream that goes through whole, that is cut without its halo, that has its crop drawn for each chunk or its frames
// chosen anew in the second pass; lengths that are those of a chunk; a head that sees one of them.
TEST_CASE("two videos in chunks learn the weights of whole clips up to rounding, and an evaluation says the same of them") {
  const ScratchFolder folder;
  make_pairs(folder.path());
  const Result whole = train_long(folder, {"plan.chunk=200", "batch.microbatch=1"}, true, two_views);
  CHECK_FALSE(says(whole.finished.out, "at a time and"));
  const auto numbers = evaluated(folder, whole, "plan.chunk=200")["metrics"];
  for (const std::string chunk : {"plan.chunk=32", "plan.chunk=51"}) {
    CAPTURE(chunk);
    const Result cut = train_long(folder, {chunk}, true, two_views);
    CHECK(says(cut.finished.out, "at a time and 3 more on each side"));
    MESSAGE(chunk, ": weights ", weights_apart(cut, whole), " apart");
    CHECK(weights_apart(cut, whole) < 1e-5);
    CHECK(cut.weights != whole.weights);
    // The same weights, whole and in chunks.
    const auto in_chunks = evaluated(folder, whole, chunk)["metrics"];
    CHECK(in_chunks["loss"].get<double>() == doctest::Approx(numbers["loss"].get<double>()).epsilon(1e-6));
    CHECK(in_chunks["accuracy.top1"] == numbers["accuracy.top1"]);
  }
  CHECK(train_long(folder, {"plan.chunk=32", "budget.workers=7"}, true, two_views).weights == train_long(folder, {"plan.chunk=32", "budget.workers=1"}, true, two_views).weights);
  const Result another = train_long(folder, {"plan.chunk=32", "run.seed=8"}, true, two_views);
  CHECK(weights_apart(another, whole) > 1e-2);
}

// Catches: a sample that goes on with one of its videos; a failure that counts once for each stream; videos of other lengths that are
// cut at each other's places.
TEST_CASE("a sample one of whose videos is damaged, or has other frames than the other, is left out whole") {
  const ScratchFolder folder;
  make_pairs(folder.path());
  fs::path victim;
  for (const auto& entry : fs::recursive_directory_iterator(folder.path() / "depths"))
    if (entry.path().filename() == "00003.mp4" && says(entry.path().string(), "/train/")) victim = entry.path();
  REQUIRE_FALSE(victim.empty());
  std::string bytes = text_of_file(victim);
  std::mt19937 random(3);
  for (std::size_t i = bytes.size() / 2; i < bytes.size() / 2 + bytes.size() / 10; ++i) bytes[i] = static_cast<char>(random());
  std::ofstream(victim, std::ios::binary) << bytes;
  const Result cut = train_long(folder, {"plan.chunk=32"}, true, two_views), whole = train_long(folder, {"plan.chunk=200", "batch.microbatch=1"}, true, two_views);
  CHECK(says(cut.finished.out + cut.finished.err, "00003.mp4"));
  CHECK(weights_apart(cut, whole) < 1e-5);

  // One of 200 frames beside one of 160: refused by its name, and the others are learnt.
  const Finished shorter = run_sluice({"check", folder.path() / "videos.toml", "data.root=shorter", "data.frames=160", "data.size=24", "stage.2.size=[16,16]", "stage.3.size=[16,16]"}, folder.path());
  REQUIRE(shorter.code == 0);
  for (const auto& entry : fs::recursive_directory_iterator(folder.path() / "shorter"))
    if (entry.path().filename() == "00003.mp4" && says(entry.path().string(), "/train/")) fs::copy_file(entry.path(), victim, fs::copy_options::overwrite_existing);
  const Result uneven = train_long(folder, {"plan.chunk=32"}, true, two_views);
  INFO(uneven.finished.err);
  CHECK(says(uneven.finished.out + uneven.finished.err, "its streams have 200 and 160 frames"));
  CHECK(uneven.rows.size() == cut.rows.size());
  CHECK(weights_apart(uneven, cut) < 1e-6);
}
