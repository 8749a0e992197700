// What is said of a model of long videos, in chunks: the numbers and the labels of whole clips, at a memory that does not follow the length,
// also where memory runs out on the way.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cmath>
#include <sstream>

#include "tests/runs/advice.hpp"
#include "tests/runs/long_run.hpp"

using namespace sluice::testing;

namespace {

// A model that needs more for frames than for the zeros with which its plan was measured.
std::string hungry(const std::string& length = "epochs = 2") {
  std::string text = long_pipeline;
  const auto replace = [&](const std::string& from, const std::string& to) { text.replace(text.find(from), from.size(), to); };
  replace("\"model.long_recognizer\"\nwidth = 6\nlayers = 2", "\"model.hungry_long\"");
  replace("epochs = 2", length);
  replace("[budget]", "[plugins]\npath = [\"@BINARY@/tests/plugins\"]\n[budget]");
  return text;
}

Finished with_checkpoint(const ScratchFolder& folder, const std::string& verb, const Result& trained, const std::vector<std::string>& more, const std::string& text = long_pipeline) {
  std::vector<std::string> words{verb, write_pipeline(folder.path(), text), "--checkpoint", newest_checkpoint(trained.run).string()};
  words.insert(words.end(), more.begin(), more.end());
  return run_sluice(words, folder.path());
}

nlohmann::json evaluated(const ScratchFolder& folder, const Result& trained, std::vector<std::string> more, const std::string& text = long_pipeline) {
  more.emplace_back("--json");
  const Finished run = with_checkpoint(folder, "eval", trained, more, text);
  INFO(run.err);
  REQUIRE(run.code == 0);
  return nlohmann::json::parse(run.out);
}

struct Labelled {
  Finished run;
  std::vector<std::pair<std::string, std::map<std::string, double>>> videos;  // in the order of printing
};

Labelled predicted(const ScratchFolder& folder, const Result& trained, std::vector<std::string> more, const std::vector<fs::path>& videos, const std::string& text = long_pipeline) {
  more.insert(more.end(), {"--json", "--top", "6", "--video"});
  for (const auto& video : videos) more.push_back(video.string());
  Labelled all{with_checkpoint(folder, "predict", trained, more, text), {}};
  std::istringstream in(all.run.out);
  for (std::string line; std::getline(in, line);) {
    const auto row = nlohmann::json::parse(line);
    all.videos.emplace_back(row["video"], std::map<std::string, double>{});
    for (const auto& label : row["labels"]) all.videos.back().second[label["label"]] = label["probability"];
  }
  return all;
}

void check_same(const Labelled& one, const Labelled& other, std::size_t videos) {
  REQUIRE(one.videos.size() == videos);
  REQUIRE(other.videos.size() == videos);
  for (std::size_t i = 0; i < videos; ++i) {
    CHECK(one.videos[i].first == other.videos[i].first);
    REQUIRE(one.videos[i].second.size() == 6);
    for (const auto& [label, probability] : one.videos[i].second) CHECK(std::abs(other.videos[i].second.at(label) - probability) < 1e-5);
  }
}

std::vector<fs::path> videos_in(const fs::path& folder, const std::string& split) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.path().extension() == ".mp4" && says(entry.path().string(), "/" + split + "/")) found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

// The least with which this verb begins: what it says itself where it is given too little.
std::uint64_t smallest_of(const Finished& refused) {
  REQUIRE(refused.code == 2);
  const std::string mark = "(at least ";
  const auto at = refused.err.find(mark);
  INFO(refused.err);
  REQUIRE(at != std::string::npos);
  return std::stoull(refused.err.substr(at + mark.size()));
}

nlohmann::json last_evaluation(const Result& result) {
  nlohmann::json last;
  for (const auto& line : result.rows)
    if (auto row = nlohmann::json::parse(line); row["kind"] == "eval") last = std::move(row);
  REQUIRE(!last.is_null());
  return last;
}

}  // namespace

// Catches: a halo that is missing in an evaluation, features of one chunk at another's place, a clip that is counted once for each chunk,
// a video that gets the label of its neighbour.
TEST_CASE("eval and predict in chunks say what they say of whole clips") {
  const ScratchFolder folder;
  const Result trained = train_long(folder, {"plan.chunk=32"});
  const auto whole = evaluated(folder, trained, {"plan.chunk=200"});
  CHECK(whole["videos"] == 4);
  const auto videos = videos_in(folder.path() / "order6", "val");
  REQUIRE(videos.size() == 4);
  const Labelled whole_labels = predicted(folder, trained, {"plan.chunk=200"}, videos);
  for (const std::string chunk : {"plan.chunk=32", "plan.chunk=51"}) {
    CAPTURE(chunk);
    const auto cut = evaluated(folder, trained, {chunk});
    CHECK(cut["videos"] == 4);
    CHECK(cut["clips"] == 4);
    CHECK(cut["metrics"]["loss"].get<double>() == doctest::Approx(whole["metrics"]["loss"].get<double>()).epsilon(1e-6));
    CHECK(cut["metrics"]["accuracy.top1"] == whole["metrics"]["accuracy.top1"]);
    check_same(predicted(folder, trained, {chunk}, videos), whole_labels, 4);
  }
  // What training said of that checkpoint, in its own chunks.
  CHECK(evaluated(folder, trained, {"plan.chunk=32"})["metrics"] == last_evaluation(trained)["numbers"]);
}

// Catches: predict holding a clip, or the frames of one, whole. The planted defect is the clip in one piece.
TEST_CASE("what predict needs does not follow the length of a video") {
  const ScratchFolder folder;
  const std::vector<std::string> size{"data.size=96", "data.flash=4", "stage.2.size=[96,96]", "stage.3.size=[96,96]", "data.train=2", "data.val=1"};
  const auto with = [&](std::vector<std::string> words) {
    words.insert(words.end(), size.begin(), size.end());
    return words;
  };
  const Result trained = train_long(folder, with({"plan.chunk=32", "run.epochs=1", "data.frames=64"}));
  const auto peak = [&](std::int64_t frames, std::vector<std::string> more) {
    const std::string root = fmt::format("videos{}", frames);
    REQUIRE(run_sluice(with({"check", write_pipeline(folder.path(), long_pipeline).string(), fmt::format("data.frames={}", frames), "data.root=" + root, "plan.chunk=32"}), folder.path()).code == 0);
    const Labelled labels = predicted(folder, trained, with(std::move(more)), videos_in(folder.path() / root, "val"));
    INFO(labels.run.err);
    REQUIRE(labels.run.code == 0);
    CHECK(labels.videos.size() == 1);
    MESSAGE(fmt::format("{} frames: {:.1f} MiB resident at the peak", frames, static_cast<double>(labels.run.peak_resident) / (1 << 20)));
    return static_cast<double>(labels.run.peak_resident);
  };
  // Enough chunks that as many are on their way as ever are.
  const double shortest = peak(512, {"plan.chunk=32"});
  for (const std::int64_t frames : {1024, 4096}) CHECK(peak(frames, {"plan.chunk=32"}) <= 1.05 * shortest);
  CHECK(peak(1024, {"plan.chunk=1024", "budget.host_ram=3GiB"}) > 1.3 * shortest);
}

// Catches: an evaluation that ends the run, that goes on in its middle and counts a clip twice, or that leaves the chunks as they were.
TEST_CASE("an evaluation in chunks that runs out of memory begins again with smaller ones, and the run says what one with room does") {
  const ScratchFolder folder;
  // The second run is declared in steps: its one evaluation comes after the last of them.
  for (const std::string length : {"epochs = 2", "steps = 2"}) {
    CAPTURE(length);
    const std::string text = hungry(length);
    const Result roomy = train_long(folder, {"model.extra_eval=2048", "plan.chunk=64"}, true, text);
    const Finished plan = run_sluice({"plan", write_pipeline(folder.path(), text), "plan.chunk=64", "--json"}, folder.path());
    INFO(plan.err);
    REQUIRE(plan.code == 0);
    const auto smallest = nlohmann::json::parse(plan.out)["smallest_host_ram"].get<std::uint64_t>();
    // 64 frames need 2 MiB each, and twice as much for a moment: those of the second clip on.
    const Result cut = train_long(folder, {"model.extra_eval=2048", "model.calm=4", fmt::format("budget.host_ram={}", smallest + (160u << 20))}, true, text);
    INFO(cut.finished.err);
    CHECK(says(cut.finished.err, "the same once more"));
    CHECK(says(cut.finished.err, "32 frames at a time instead of 64 from here on"));
    REQUIRE(cut.rows.size() == roomy.rows.size());
    const auto one = last_evaluation(cut), other = last_evaluation(roomy);
    CHECK(one["clips"] == 4);
    CHECK(one["numbers"]["loss"].get<double>() == doctest::Approx(other["numbers"]["loss"].get<double>()).epsilon(1e-4));
    CHECK(one["numbers"]["accuracy.top1"] == other["numbers"]["accuracy.top1"]);
    CHECK(weights_apart(cut, roomy) < 1e-3);
  }
}

// Catches: an evaluation that starts over with half of its videos counted, videos that are printed twice or left out, chunks that stay as they
// were; advice that was not tried, and a report without the one who asked.
TEST_CASE("eval and predict in chunks go on with smaller ones where memory runs out, and end with advice that works where chunks are pinned") {
  const ScratchFolder folder;
  const std::string text = hungry("epochs = 1");
  const Result trained = train_long(folder, {"plan.chunk=64"}, true, text);
  const auto videos = videos_in(folder.path() / "order6", "val");
  for (const std::string verb : {"eval", "predict"}) {
    CAPTURE(verb);
    const auto run = [&](std::vector<std::string> more) {
      more.insert(more.end(), {"model.extra_eval=2048", "model.calm=4"});  // from the middle of the second clip on
      Labelled all = verb == "eval" ? Labelled{} : predicted(folder, trained, more, videos, text);
      if (verb == "eval") more.emplace_back("--json"), all.run = with_checkpoint(folder, verb, trained, more, text);
      return all;
    };
    const auto same = [&](const Labelled& one, const Labelled& other) {
      if (verb == "predict") return check_same(one, other, 4);
      const auto numbers = nlohmann::json::parse(one.run.out), others = nlohmann::json::parse(other.run.out);
      CHECK(numbers["clips"] == 4);
      CHECK(numbers["videos"] == 4);
      CHECK(numbers["metrics"]["loss"].get<double>() == doctest::Approx(others["metrics"]["loss"].get<double>()).epsilon(1e-5));
      CHECK(numbers["metrics"]["accuracy.top1"] == others["metrics"]["accuracy.top1"]);
    };
    const Labelled roomy = run({"plan.chunk=64"});
    INFO(roomy.run.err);
    REQUIRE(roomy.run.code == 0);
    const auto smallest = smallest_of(run({"plan.chunk=64", "budget.host_ram=48MiB"}).run);
    const auto tight = fmt::format("budget.host_ram={}", smallest + (160u << 20));
    const Labelled cut = run({tight});
    INFO(cut.run.err);
    REQUIRE(cut.run.code == 0);
    CHECK(says(cut.run.err, "the same once more"));
    CHECK(says(cut.run.err, "32 frames at a time instead of 64 from here on"));
    same(cut, roomy);

    const Labelled pinned = run({tight, "plan.chunk=64"});
    CHECK(pinned.run.code == 2);
    CHECK(says(pinned.run.err, verb == "eval" ? "out of memory in the evaluation" : "out of memory in the prediction"));
    for (const auto* line : {"requested  ", "allocated  ", "by place   ", "largest    ", "process    "}) CHECK(says(pinned.run.err, line));
    CHECK_FALSE(says(pinned.run.err, "--resume"));
    CHECK_FALSE(says(pinned.run.err, "learns"));
    const auto advice = advice_of(pinned.run.err);
    REQUIRE(advice.size() == 2);
    CHECK(advice[0].key == "plan.chunk");
    CHECK(advice[1].key == "budget.host_ram");
    for (const auto& change : advice) {
      const Labelled followed = run({tight, "plan.chunk=64", change.key + "=" + change.value});
      INFO(followed.run.err);
      REQUIRE(followed.run.code == 0);
      same(followed, roomy);
    }
    // Planted: an eighth less is not enough.
    const auto mib = std::stoull(advice[1].value.substr(1)) * 7 / 8;
    CHECK(run({fmt::format("budget.host_ram={}MiB", mib), "plan.chunk=64"}).run.code == 2);
  }
}
