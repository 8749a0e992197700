// What cannot work is refused before anything is lost: settings that contradict each other, a wrong radius, plans and budgets that do not fit, a segment that is
// no function of its inputs. Each message names what was found and what to write; where it gives choices, each of them is followed.
#include <doctest/doctest.h>

#include <fmt/format.h>

#include "tests/runs/long_run.hpp"

using namespace sluice::testing;

namespace {

void replace(std::string& text, const std::string& from, const std::string& to) {
  for (auto at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) text.replace(at, from.size(), to);
}

// A second at most of work: few clips, and of them few batches.
std::string small_pipeline() {
  std::string text = synthetic_pipeline;
  replace(text, "epochs = 3", "steps = 6");
  replace(text, "compute_threads = 2", "compute_threads = 1");
  replace(text, "train = 68", "train = 48");
  replace(text, "val = 20", "val = 0");
  return text;
}

Finished run_in(const fs::path& folder, const std::string& verb, const std::vector<std::string>& more) {
  std::vector<std::string> words{verb, folder / "pipeline.toml"};
  words.insert(words.end(), more.begin(), more.end());
  return run_sluice(words, folder, 120);
}

// "... (at least 123 bytes)": 123, or 0.
std::uint64_t named_least(const std::string& text) {
  const auto at = text.find("(at least ");
  return at == std::string::npos ? 0 : std::stoull(text.substr(at + 10));
}

}  // namespace

// Catches: a pin that is quietly taken and changes what batch norm learns, a hint whose choices do not work.
TEST_CASE("a microbatch below the batch where batch norm goes over the whole batch: refused with three choices, each of which works") {
  const ScratchFolder folder;
  write_pipeline(folder.path(), small_pipeline());
  const Finished refused = run_in(folder.path(), "train", {"batch.microbatch=3"});
  INFO(refused.err);
  CHECK(refused.code == 2);
  CHECK(says(refused.err, "command line: batch.microbatch=3: the model has 12 batch norm layers with statistics over the whole batch of 8 clips; microbatches of 3 would change what is learnt"));
  CHECK(says(refused.err, "choose one: batch.microbatch = 8 (or \"auto\")"));
  CHECK(says(refused.err, "model.batch_norm = { group = 3 }"));
  CHECK(says(refused.err, "model.batch_norm = \"frozen\""));
  CHECK_FALSE(fs::exists(folder.path() / "runs/synthetic/plan.toml"));
  for (const auto& choice : std::vector<std::vector<std::string>>{{"batch.microbatch=8"}, {"batch.microbatch=auto"}, {"batch.microbatch=3", "model.batch_norm={ group = 3 }"}, {"batch.microbatch=3", "model.batch_norm=frozen"}}) {
    CAPTURE(choice.back());
    const Finished followed = run_in(folder.path(), "check", choice);
    INFO(followed.err);
    CHECK(followed.code == 0);
  }
}

// Catches: check_radius() that nobody calls (its unit tests would still pass), one that is called when frames were decoded already, a message without the model.
// Planted: with the radius that it has, the same pipeline trains, and its frames come.
TEST_CASE("a model that declares a radius smaller than its own is refused by name, by check and by train, before a frame is decoded") {
  const ScratchFolder folder;
  std::string text = long_pipeline;
  replace(text, "plugin = \"model.long_recognizer\"\nwidth = 6\nlayers = 2\n", "plugin = \"model.hungry_long\"\n");
  replace(text, "[batch]", "[[stage]]\nplugin = \"fixture.tripwire\"\n[batch]");
  replace(text, "[budget]", "[plugins]\npath = [\"@BINARY@/tests/plugins\"]\n[budget]");
  replace(text, "frames = 200", "frames = 60\nflash = 4");
  write_pipeline(folder.path(), text);
  const fs::path came = folder.path() / "frames_came";
  const std::vector<std::string> small{"plan.chunk=16", "run.epochs=1", "data.train=4", "data.val=0"};
  for (const std::string verb : {"check", "train"}) {
    CAPTURE(verb);
    auto words = small;
    words.emplace_back("model.declared=0");
    const Finished refused = run_in(folder.path(), verb, words);
    INFO(refused.err);
    CHECK(refused.code == 3);
    CHECK(says(refused.err, "model.hungry_long: the model declares a temporal radius of 0, and its features see 1 frames to a side"));
    CHECK(says(refused.err, "temporal_radius() = 1"));
    CHECK_FALSE(fs::exists(came));
    CHECK_FALSE(fs::exists(folder.path() / "runs/long/checkpoints"));
  }
  const Finished right = run_in(folder.path(), "train", small);
  INFO(right.err);
  CHECK(right.code == 0);
  CHECK(fs::exists(came));
}

// Catches: a plan of another budget that is bent until it fits, or is followed into the budget's end; a refusal without a way out.
TEST_CASE("--plan with a plan that does not fit the budget is refused with what would fit, and what is named does") {
  const ScratchFolder folder;
  std::string text = small_pipeline();
  replace(text, "plugin = \"synthetic.clip\"", "plugin = \"synthetic.clip\"\n[[stage]]\nplugin = \"augment.resize\"\nsize = [64, 64]");
  replace(text, "size = [24, 24]", "size = [56, 56]");
  replace(text, "steps = 6", "steps = 1");
  replace(text, "[loss]", "batch_norm = \"frozen\"\n[loss]");
  write_pipeline(folder.path(), text);
  REQUIRE(run_in(folder.path(), "train", {"run.dir=roomy"}).code == 0);
  REQUIRE(says(text_of_file(folder.path() / "roomy/plan.toml"), "microbatch = 8"));
  const Finished planned = run_in(folder.path(), "plan", {"--json"});
  REQUIRE(planned.code == 0);
  const std::uint64_t smallest = nlohmann::json::parse(planned.out)["smallest_host_ram"];
  const std::string tight = fmt::format("budget.host_ram={}", smallest + (2 << 20));
  const Finished refused = run_in(folder.path(), "train", {tight, "run.dir=tight", "--plan", "roomy/plan.toml"});
  INFO(refused.err);
  CHECK(refused.code == 2);
  CHECK(says(refused.err, "batch.microbatch = \"auto\" (it is pinned by roomy/plan.toml:"));
  const auto least = named_least(refused.err);
  CHECK(least > smallest + (2 << 20));
  CHECK_FALSE(fs::exists(folder.path() / "tight/plan.toml"));
  CHECK(run_in(folder.path(), "train", {tight, "run.dir=tight"}).code == 0);  // without the plan
  CHECK(run_in(folder.path(), "train", {fmt::format("budget.host_ram={}", least), "run.dir=tight2", "--plan", "roomy/plan.toml"}).code == 0);
}

// Catches: a network that is measured in vain, or for minutes, where not even its weights have room; a number that does not work.
TEST_CASE("budgets below the parameters themselves are refused in seconds, with the least that works; the run that was there stays") {
  const ScratchFolder folder;
  std::string text = small_pipeline();
  replace(text, "depth = 10, width = 8", "depth = 10, width = 64");
  replace(text, "plugin = \"synthetic.clip\"", "plugin = \"synthetic.clip\"\nframes = 2");
  replace(text, "plugin = \"optimizer.adamw\"\nlr = 0.003", "plugin = \"optimizer.sgd\"\nlr = 0.003\nmomentum = 0.9");
  replace(text, "size = 8", "size = 2");
  write_pipeline(folder.path(), text);
  fs::create_directories(folder.path() / "runs/synthetic/checkpoints/step-9");
  const Finished checked = run_in(folder.path(), "check", {"--json"});
  INFO(checked.err);
  REQUIRE(checked.code == 0);
  const auto accounts = nlohmann::json::parse(checked.out)["accounts"];
  const std::uint64_t base = accounts["base"], parameters = accounts["parameters"];
  REQUIRE(parameters > 50 << 20);
  for (const std::string& budget : {fmt::format("budget.host_ram={}", base + parameters / 2), std::string("budget.device_memory=24MiB")}) {
    CAPTURE(budget);
    const Finished refused = run_in(folder.path(), "train", {budget, "run.steps=1"});
    INFO(refused.err);
    CHECK(refused.code == 2);
    CHECK(refused.seconds < 60);
    CHECK(says(refused.err, "command line: " + budget));
    CHECK(says(refused.err, "parameters"));
    CHECK(fs::exists(folder.path() / "runs/synthetic/checkpoints/step-9"));
    const auto least = named_least(refused.err);
    REQUIRE(least > parameters);
    const std::string key = budget.substr(0, budget.find('='));
    const Finished followed = run_in(folder.path(), "check", {fmt::format("{}={}", key, least)});
    INFO(followed.err);
    CHECK(followed.code == 0);
    // What a start has resident before the first pass, and with it the least host_ram, differs by some hundred KiB from one process to the next.
    CHECK(run_in(folder.path(), "check", {fmt::format("{}={}", key, least - (2 << 20))}).code == 2);
  }
}

// Catches: gradients of activations that are not those of the forward pass, a message without the segment or the shapes, a checkpoint that suffers.
TEST_CASE("a segment that makes other shapes when it runs again: segment, both shapes and step are named, what was done is saved, and the run can go on") {
  const ScratchFolder folder;
  std::string text = small_pipeline();
  replace(text, "{ plugin = \"backbone.r3d\", depth = 10, width = 8 }", "{ plugin = \"backbone.faulty\" }");
  write_pipeline(folder.path(), text);
  REQUIRE(run_in(folder.path(), "train", {"run.dir=whole", "plan.checkpoint=true"}).code == 0);
  const Finished failed = run_in(folder.path(), "train", {"run.dir=run", "plan.checkpoint=true", "env.FIXTURE_FAULT=shapes:4"});
  INFO(failed.err);
  CHECK(failed.code == 3);
  CHECK(says(failed.err, "error: step 4: the segment 'features' made Float [8x3x8x24x24] in its first run and Float [8x3x7x24x24] in its second"));
  CHECK(says(failed.err, "a segment is a pure function of its inputs"));
  CHECK(newest_checkpoint(folder.path() / "run").filename() == "step-3");
  const Finished resumed = run_in(folder.path(), "train", {"run.dir=run", "plan.checkpoint=true", "--resume"});
  INFO(resumed.err);
  CHECK(resumed.code == 0);
  CHECK(last_weights(folder.path() / "run") == last_weights(folder.path() / "whole"));
  // Where it is not run again nothing is wrong with it.
  CHECK(run_in(folder.path(), "train", {"run.dir=once", "plan.checkpoint=false", "env.FIXTURE_FAULT=shapes:4"}).code == 0);
}
