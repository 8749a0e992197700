// M8 of the promises: a run that ends for want of memory says what would have done, and it does.
#include <doctest/doctest.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <sstream>

#include "tests/runs/advice.hpp"
#include "tests/runs/synthetic_run.hpp"

using namespace sluice::testing;

namespace {

// Its segments take more memory for frames than for the zeros with which the plan was measured.
std::string hungry_pipeline() {
  std::string text = synthetic_pipeline;
  const auto replace = [&](const std::string& from, const std::string& to) { text.replace(text.find(from), from.size(), to); };
  replace("{ plugin = \"backbone.r3d\", depth = 10, width = 8 }", "{ plugin = \"backbone.hungry\" }");
  replace("epochs = 3", "steps = 2");
  replace("train = 68", "train = 16");
  replace("val = 20", "val = 8");
  return text;
}

struct Case {
  std::string name;
  std::vector<std::string> settings;
  std::uint64_t beyond;  // MiB of the budget above the least that is said to work
  std::int64_t extra_train, extra_eval;  // KiB a clip in each segment
};

std::vector<std::string> overrides(const Case& one, std::uint64_t host_ram) {
  std::vector<std::string> out = one.settings;
  out.push_back(fmt::format("budget.host_ram={}", host_ram));
  out.push_back(fmt::format("model.backbone.extra_train={}", one.extra_train));
  out.push_back(fmt::format("model.backbone.extra_eval={}", one.extra_eval));
  return out;
}

Finished train(const fs::path& file, const fs::path& folder, std::vector<std::string> more, bool resume) {
  std::vector<std::string> words{"train", file};
  words.insert(words.end(), more.begin(), more.end());
  if (resume) words.emplace_back("--resume");
  return run_sluice(words, folder);
}

std::uint64_t smallest_of(const fs::path& file, const fs::path& folder, const std::vector<std::string>& settings) {
  std::vector<std::string> words{"plan", file, "--json"};
  words.insert(words.end(), settings.begin(), settings.end());
  const Finished run = run_sluice(words, folder);
  INFO(run.err);
  REQUIRE(run.code == 0);
  return nlohmann::json::parse(run.out)["smallest_host_ram"];
}

std::vector<Case> cases() {
  const std::vector<std::string> whole{"batch.microbatch=8", "plan.checkpoint=false"}, cut{"plan.checkpoint=false"}, twice{"batch.microbatch=8"}, pair{"batch.microbatch=2", "plan.checkpoint=false"},
      named{"batch.microbatch=8", "plan.checkpoint=[\"block0\"]"};
  return {
      {"all pinned, room for twice", whole, 84, 2048, 0},       {"all pinned, less room", whole, 56, 1900, 0},
      {"all pinned, room for a part", whole, 20, 2048, 0},      {"all pinned, room for a clip", whole, 14, 2048, 0},
      {"all pinned, no room", whole, 8, 8192, 0},               {"all pinned, much more", whole, 4, 40000, 0},
      {"microbatch pinned, room for a part", twice, 20, 2048, 0}, {"microbatch pinned, room for half", twice, 30, 2048, 0},
      {"microbatch pinned, no room", twice, 4, 8192, 0},        {"pairs, room for twice", pair, 14, 2048, 0},
      {"pairs, no room", pair, 4, 4096, 0},                     {"once, no room", cut, 6, 8192, 0},
      {"once, little room", cut, 3, 2048, 0},                   {"nothing pinned, no room", {}, 4, 4096, 0},
      {"nothing pinned, less room", {}, 2, 8192, 0},            {"nothing pinned, much more", {}, 20, 40000, 0},
      {"a named segment", named, 50, 2048, 0},                  {"evaluation", {}, 8, 0, 8192},
      {"evaluation, much more", whole, 20, 0, 40000},           {"both", {}, 4, 4096, 8192},
  };
}

}  // namespace

// Catches: advice that was guessed, advice that helps one account and breaks another, a failed step that leaves the run unusable.
TEST_CASE("twenty runs out of memory: every change that the message names works when it is followed to the letter") {
  const ScratchFolder folder;
  const auto file = write_pipeline(folder.path(), hungry_pipeline());
  const auto all = cases();
  REQUIRE(all.size() == 20);
  int followed = 0, worked = 0;
  std::size_t with_advice = 0;
  for (const auto& one : all) {
    CAPTURE(one.name);
    const auto host_ram = smallest_of(file, folder.path(), one.settings) + (one.beyond << 20);
    fs::remove_all(folder.path() / "runs");
    const Finished failed = train(file, folder.path(), overrides(one, host_ram), false);
    CAPTURE(failed.err);
    CHECK(failed.code == 2);
    CHECK(failed.out.find("trying what would have been enough") != std::string::npos);
    CHECK(failed.err.find("out of memory in ") != std::string::npos);
    CHECK(failed.err.find("largest") != std::string::npos);
    const auto advice = advice_of(failed.err);
    CHECK(!advice.empty());
    with_advice += advice.empty() ? 0 : 1;
    for (const auto& change : advice) {
      CAPTURE(change.key);
      CAPTURE(change.value);
      auto more = overrides(one, host_ram);
      more.push_back(change.key + "=" + change.value);
      const Finished run = train(file, folder.path(), more, true);
      CAPTURE(run.err);
      CHECK(run.code == 0);
      ++followed;
      worked += run.code == 0;
      // As if that one had never been.
      for (const auto& entry : fs::directory_iterator(folder.path() / "runs")) fs::remove_all(entry.path());
    }
  }
  CHECK(with_advice == 20);
  CHECK(worked == followed);
  MESSAGE(followed, " changes were named by 20 runs that failed, ", worked, " of them worked");
}

// Catches: a report without the one who asked, an advice that does not come from a trial.
TEST_CASE("the report names who asked, what is held by account and place, and the largest blocks") {
  const ScratchFolder folder;
  const auto file = write_pipeline(folder.path(), hungry_pipeline());
  const Case one{"", {"batch.microbatch=8", "plan.checkpoint=false"}, 84, 2048, 0};
  const auto host_ram = smallest_of(file, folder.path(), one.settings) + (one.beyond << 20);
  const Finished failed = train(file, folder.path(), overrides(one, host_ram), false);
  INFO(failed.err);
  CHECK(failed.err.find("requested  16.0 MiB in the backward pass") != std::string::npos);
  CHECK(failed.err.find("16.0 MiB activations of block2, 16.0 MiB activations of block1") != std::string::npos);
  CHECK(failed.err.find("parameters ") != std::string::npos);
  CHECK(failed.err.find("by place   ") != std::string::npos);
  REQUIRE(advice_of(failed.err).size() == 2);
  CHECK(advice_of(failed.err)[0].key == "plan.checkpoint");
  CHECK(advice_of(failed.err)[1].key == "budget.host_ram");
  // Planted: sixteen MiB less than advised is not enough, so the advice is no round number far above.
  const auto mib = std::stoull(advice_of(failed.err)[1].value.substr(1)) - 16;
  CHECK(train(file, folder.path(), overrides(one, mib << 20), false).code == 2);
}

// Catches: a verb of its own that ends with one line, advice that was not tried, an evaluation that gives up before it takes fewer clips at a
// time, a video whose label is printed twice.
TEST_CASE("eval and predict take fewer clips at a time, then end with the same report and with advice that works") {
  const ScratchFolder folder;
  std::string text = hungry_pipeline();
  const auto replace = [&](const std::string& from, const std::string& to) { text.replace(text.find(from), from.size(), to); };
  replace("\"source.synthetic\"\ntrain = 16", "\"source.order6\"\nroot = \"order6\"\nframes = 60\nflash = 4\ntrain = 16");
  replace("[[stage]]\nplugin = \"synthetic.clip\"", "[[stage]]\nplugin = \"frames.uniform\"\nframes = 8\n[[stage]]\nplugin = \"decode.ffmpeg\"");
  const auto file = write_pipeline(folder.path(), text);
  const Finished trained = train(file, folder.path(), {"budget.host_ram=1GiB"}, false);
  INFO(trained.err);
  REQUIRE(trained.code == 0);
  std::vector<std::string> videos;
  for (const auto& entry : fs::recursive_directory_iterator(folder.path() / "order6"))
    if (entry.path().extension() == ".mp4" && entry.path().string().find("/val/") != std::string::npos) videos.push_back(entry.path().string());
  REQUIRE(videos.size() == 8);
  for (const std::string verb : {"eval", "predict"}) {
    CAPTURE(verb);
    const auto run = [&](std::vector<std::string> more) {
      more.insert(more.begin(), {verb, file, "--json", "eval.microbatch=8"});
      if (verb == "predict") more.emplace_back("--video"), more.insert(more.end(), videos.begin(), videos.end());
      return run_sluice(more, folder.path());
    };
    // "clips", the loss and the accuracy, or a label of each video.
    const auto same = [&](const Finished& one, const Finished& other) {
      std::istringstream lines(one.out), others(other.out);
      std::size_t count = 0;
      for (std::string line, another; std::getline(lines, line) && std::getline(others, another); ++count) {
        const auto row = nlohmann::json::parse(line), expected = nlohmann::json::parse(another);
        if (verb == "predict") {
          CHECK(row["video"] == expected["video"]);
          CHECK(row["labels"][0]["probability"].get<double>() == doctest::Approx(expected["labels"][0]["probability"].get<double>()).epsilon(1e-4));
        } else {
          CHECK(row["clips"] == 8);
          CHECK(row["metrics"]["loss"].get<double>() == doctest::Approx(expected["metrics"]["loss"].get<double>()).epsilon(1e-5));
        }
      }
      std::string more;
      CHECK_FALSE(std::getline(lines, more));
      CHECK(count == (verb == "predict" ? 8 : 1));
    };
    const Finished roomy = run({"budget.host_ram=1GiB", "model.backbone.extra_eval=2048"});
    INFO(roomy.err);
    REQUIRE(roomy.code == 0);
    const Finished refused = run({"budget.host_ram=48MiB"});
    INFO(refused.err);
    REQUIRE(refused.code == 2);
    const auto at = refused.err.find("(at least ");
    REQUIRE(at != std::string::npos);
    const auto budget = fmt::format("budget.host_ram={}", std::stoull(refused.err.substr(at + 10)) + (12u << 20));
    // 8 clips take 16 MiB more, and as much again for a moment; one takes 2.
    const Finished fewer = run({budget, "model.backbone.extra_eval=2048"});
    INFO(fewer.err);
    REQUIRE(fewer.code == 0);
    CHECK(fewer.err.find("at a time instead of 8 from here on") != std::string::npos);
    same(fewer, roomy);

    const Finished failed = run({budget, "model.backbone.extra_eval=40000"});
    INFO(failed.err);
    CHECK(failed.code == 2);
    CHECK(failed.err.find(verb == "eval" ? "out of memory in the evaluation\n  requested  39.1 MiB in block0" : "out of memory in the prediction\n  requested  39.1 MiB in block0") != std::string::npos);
    for (const auto* line : {"  allocated  ", "  by place   ", "  largest    ", "  process    "}) CHECK(failed.err.find(line) != std::string::npos);
    CHECK(failed.err.find("--resume") == std::string::npos);
    CHECK(failed.err.find("learns") == std::string::npos);
    const auto advice = advice_of(failed.err);
    REQUIRE(advice.size() == 1);
    CHECK(advice[0].key == "budget.host_ram");
    const Finished followed = run({"budget.host_ram=" + advice[0].value, "model.backbone.extra_eval=40000"});
    INFO(followed.err);
    CHECK(followed.code == 0);
    // Planted: an eighth less is not enough.
    const auto mib = std::stoull(advice[0].value.substr(1)) * 7 / 8;
    CHECK(run({fmt::format("budget.host_ram={}MiB", mib), "model.backbone.extra_eval=40000"}).code == 2);
  }
}
