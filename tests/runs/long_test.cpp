// Long videos in chunks, whole runs: memory that does not follow the length, exact resume, bad files, what is refused.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <csignal>
#include <random>

#include "tests/runs/advice.hpp"
#include "tests/runs/long_run.hpp"

using namespace sluice::testing;

// Catches: chunks in the order of arrival, a crop or a colour drawn for each chunk, a plan that follows the budget. Another chunk gives
// the same up to rounding, another seed does not.
TEST_CASE("weights are bit-equal whatever workers and budget; another chunk changes rounding alone") {
  const ScratchFolder folder;
  const Result first = train_long(folder, {"plan.chunk=32", "budget.workers=1"});
  CHECK(first.rows.size() == 6 + 2);
  for (const auto* workers : {"budget.workers=2", "budget.workers=7"}) {
    const Result other = train_long(folder, {"plan.chunk=32", workers});
    CHECK(other.weights == first.weights);
    CHECK(other.rows == first.rows);
  }
  const Result whole = train_long(folder, {"plan.chunk=200", "batch.microbatch=1"});
  CHECK_FALSE(says(whole.finished.out, "at a time and"));
  CHECK(says(first.finished.out, "32 at a time and 2 more on each side"));
  CHECK(last_loss(whole) == doctest::Approx(last_loss(first)).epsilon(1e-4));
  const Result odd = train_long(folder, {"plan.chunk=51"});
  CHECK(last_loss(odd) == doctest::Approx(last_loss(first)).epsilon(1e-4));
  CHECK(odd.weights != first.weights);
  const Result another = train_long(folder, {"plan.chunk=32", "run.seed=8"});
  CHECK(std::abs(last_loss(another) - last_loss(first)) > 1e-3);
}

// Catches: a cursor that counts chunks, a batch that goes on in its middle, gradients of a clip that are lost.
TEST_CASE("killed in the middle of batches and resumed: bit-equal weights and log; another chunk is refused") {
  const ScratchFolder folder;
  const Result straight = train_long(folder, {"plan.chunk=32"});
  const auto run = folder.path() / "killed";
  const std::vector<std::string> command = {"train", write_pipeline(folder.path(), long_pipeline), "run.dir=" + run.string(), "plan.chunk=32", "--resume"};
  std::mt19937 random(20261122);
  int kills = 0;
  for (int attempt = 0; attempt < 100; ++attempt) {
    SluiceProcess process(command, folder.path());
    // Counted from its first sign of life in this run's log, or from its start.
    const double moment = std::uniform_real_distribution<double>(0.2, 2.5)(random);
    while (process.look() && process.seconds() < moment) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (kills < 6 && process.look()) {
      process.kill(SIGKILL);
      if (process.wait(10).signal == SIGKILL) ++kills;
      continue;
    }
    const Finished finished = process.wait(300);
    INFO(finished.err);
    REQUIRE(finished.code == 0);
    CHECK(last_weights(run) == straight.weights);
    CHECK(learnt(run) == straight.rows);
    if (kills >= 6) break;
    fs::remove_all(run);
  }
  CHECK(kills == 6);
  auto other = command;
  other[3] = "plan.chunk=64";
  const Finished refused = run_sluice(other, folder.path());
  CHECK(refused.code == 2);
  CHECK(says(refused.err, "chunk: 32 before, 64 now"));
}

// Catches: a smallest budget of the first chunk that comes to mind, one that does not work, one that is not the smallest.
TEST_CASE("the least that works for long clips is that of the smallest chunk, to the byte") {
  const ScratchFolder folder;
  const auto file = write_pipeline(folder.path(), long_pipeline);
  const auto plan = [&](std::vector<std::string> more) {
    std::vector<std::string> words{"plan", file, "--json"};
    words.insert(words.end(), more.begin(), more.end());
    return run_sluice(words, folder.path());
  };
  const auto roomy = nlohmann::json::parse(plan({}).out);
  CHECK(roomy["plan"]["chunk"] == 64);
  CHECK(roomy["smallest_plan"]["chunk"] == 16);
  const auto smallest = roomy["smallest_host_ram"].get<std::uint64_t>();
  const Finished below = plan({fmt::format("budget.host_ram={}", smallest - 1)});
  CHECK(below.code == 2);
  CHECK(says(below.err, fmt::format("{} bytes", smallest)));
  const auto least = train_long(folder, {fmt::format("budget.host_ram={}", smallest)});
  CHECK(least.finished.peak_resident <= smallest);
}

// Catches: a step that goes on in the middle after it ran out of memory, a batch that counts twice, smaller chunks that are another training.
TEST_CASE("chunks that do not fit: the run goes on with smaller ones from its last whole step; where they are pinned it ends with advice that works") {
  const ScratchFolder folder;
  std::string text = long_pipeline;
  const auto replace = [&](const std::string& from, const std::string& to) { text.replace(text.find(from), from.size(), to); };
  replace("\"model.long_recognizer\"\nwidth = 6\nlayers = 2", "\"model.hungry_long\"\nextra = 512");
  replace("[budget]", "[plugins]\npath = [\"@BINARY@/tests/plugins\"]\n[budget]");
  const Result roomy = train_long(folder, {"plan.chunk=64"}, true, text);
  const Finished plan = run_sluice({"plan", write_pipeline(folder.path(), text), "plan.chunk=64", "--json"}, folder.path());
  REQUIRE(plan.code == 0);
  const auto smallest = nlohmann::json::parse(plan.out)["smallest_host_ram"].get<std::uint64_t>();
  // A chunk of 64 frames needs 32 MiB more than zeros do, and as much again twice for its backward pass.
  const auto tight = fmt::format("budget.host_ram={}", smallest + (80u << 20));
  const Result cut = train_long(folder, {tight}, true, text);
  INFO(cut.finished.err);
  CHECK(says(cut.finished.err, "the same once more"));
  CHECK(says(cut.finished.err, "32 frames at a time instead of 64 from here on"));
  CHECK(last_loss(cut) == doctest::Approx(last_loss(roomy)).epsilon(1e-3));
  REQUIRE(cut.rows.size() == roomy.rows.size());

  const Result pinned = train_long(folder, {tight, "plan.chunk=64"}, false, text);
  INFO(pinned.finished.err);
  CHECK(pinned.finished.code == 2);
  const auto advice = advice_of(pinned.finished.err);
  REQUIRE(advice.size() == 2);
  CHECK(advice[0].key == "plan.chunk");
  for (const auto& change : advice) {
    const Result followed = train_long(folder, {tight, "plan.chunk=64", change.key + "=" + change.value}, true, text);
    CHECK(followed.rows.size() == roomy.rows.size());
  }
}

// Catches: a clip that fails in its middle and takes its batch along, waits for ever, or stays half in the gradient.
TEST_CASE("a video that is damaged in its middle is left out whole; the run is that of the others") {
  const ScratchFolder folder;
  static_cast<void>(train_long(folder, {"plan.chunk=32"}));  // makes the files
  fs::path victim;
  for (const auto& entry : fs::recursive_directory_iterator(folder.path() / "order6"))
    if (entry.path().filename() == "00003.mp4" && says(entry.path().string(), "/train/")) victim = entry.path();
  REQUIRE_FALSE(victim.empty());
  std::string bytes = text_of_file(victim);
  std::mt19937 random(3);
  for (std::size_t i = bytes.size() / 2; i < bytes.size() / 2 + bytes.size() / 10; ++i) bytes[i] = static_cast<char>(random());
  std::ofstream(victim, std::ios::binary) << bytes;
  const Result first = train_long(folder, {"plan.chunk=32", "budget.workers=1"});
  const Result second = train_long(folder, {"plan.chunk=32", "budget.workers=7"});
  CHECK(first.weights == second.weights);
  CHECK(first.rows == second.rows);
  CHECK(says(first.finished.out + first.finished.err, "00003.mp4"));
  const Result whole = train_long(folder, {"plan.chunk=200", "batch.microbatch=1"});
  CHECK(last_loss(whole) == doctest::Approx(last_loss(first)).epsilon(1e-4));
}

// M3. Catches: a clip that is in memory whole somewhere: frames, features with a graph, frame times. The planted defect is the clip in one piece.
TEST_CASE("the resident peak does not follow the length of a video") {
  const auto peak = [](std::int64_t frames, const std::vector<std::string>& more) {
    const ScratchFolder folder;
    std::vector<std::string> overrides{"data.train=2", "data.val=1", "data.size=96", "data.flash=4", "stage.2.size=[96,96]", "stage.3.size=[96,96]", "run.epochs=1", fmt::format("data.frames={}", frames)};
    overrides.insert(overrides.end(), more.begin(), more.end());
    return static_cast<double>(train_long(folder, overrides).finished.peak_resident);
  };
  const double shortest = peak(64, {"plan.chunk=32"});
  for (const std::int64_t frames : {1024, 4096}) {
    const double longer = peak(frames, {"plan.chunk=32"});
    MESSAGE(fmt::format("{} frames: {:.1f} MiB resident at the peak; 64 frames: {:.1f} MiB", frames, longer / (1 << 20), shortest / (1 << 20)));
    CHECK(longer <= 1.05 * shortest);
  }
  const double whole = peak(1024, {"plan.chunk=1024", "budget.host_ram=3GiB"});
  MESSAGE(fmt::format("1024 frames in one piece: {:.1f} MiB", whole / (1 << 20)));
  CHECK(whole > 1.3 * shortest);
}

TEST_CASE("what cannot go through in chunks is refused with its place") {
  const ScratchFolder folder;
  const auto refusal = [&](const std::vector<std::string>& overrides) { return train_long(folder, overrides, false).finished; };
  Finished no = refusal({"plan.chunk=32", "batch.microbatch=2"});
  CHECK(no.code == 2);
  CHECK(says(no.err, "clips in chunks go through one at a time"));
  no = refusal({"plan.chunk=32", "model.plugin=model.recognizer", "model.backbone={ plugin = \"backbone.r3d\", depth = 10, width = 8 }", "model.head={ plugin = \"head.linear\" }"});
  CHECK(no.code == 2);
  CHECK(says(no.err, "this model looks at whole clips"));
  no = refusal({"plan.chunk=32", "stage.4.plugin=augment.reverse"});
  CHECK(no.code == 2);
  CHECK(says(no.err, "augment.reverse needs the whole clip"));
}
