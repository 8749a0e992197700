// A device that is gone: in the middle of a run, in an evaluation, while a plan is made, between a run and its resume. tests/fixtures/faulty.cpp throws what
// LibTorch throws then, and from there on refuses every copy of a tensor; on the CPU, so that no card is needed.
#include <doctest/doctest.h>

#include "framework/state/hash.hpp"
#include "framework/state/manifest.hpp"
#include "tests/runs/synthetic_run.hpp"

using namespace sluice::testing;

namespace {

std::string faulty_pipeline() {
  std::string text = synthetic_pipeline;
  const auto replace = [&](const std::string& from, const std::string& to) { text.replace(text.find(from), from.size(), to); };
  replace("{ plugin = \"backbone.r3d\", depth = 10, width = 8 }", "{ plugin = \"backbone.faulty\" }");
  replace("epochs = 3", "steps = 6");
  replace("compute_threads = 2", "compute_threads = 1");
  replace("val = 20", "val = 8");
  return text;
}

bool says(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

Finished run_in(const fs::path& folder, std::vector<std::string> words, const std::vector<std::string>& more) {
  words.insert(words.begin() + 1, folder / "pipeline.toml");
  words.insert(words.end(), more.begin(), more.end());
  return run_sluice(words, folder, 60);
}

std::string newest(const fs::path& run) { return fs::exists(run / "checkpoints") ? newest_checkpoint(run).filename().string() : ""; }

// Nothing of the dead device was asked for, and the process ended by itself.
void check_end(const Finished& run) {
  CHECK(run.signal == 0);
  CHECK_FALSE(says(run.err, "terminate"));
  CHECK_FALSE(says(run.err, "could be saved"));
  CHECK_FALSE(says(run.err, "Search for"));
}

// As if the checkpoint had been written on another device.
void write_device(const fs::path& checkpoint, const std::string& device) {
  auto state = nlohmann::ordered_json::parse(text_of_file(checkpoint / "state.json"));
  state["plan"]["device"] = device;
  const std::string text = state.dump(1);
  auto manifest = sluice::parse_manifest(text_of_file(checkpoint / "manifest.json"));
  for (auto& file : manifest.files)
    if (file.name == "state.json") file.bytes = text.size(), file.hash = sluice::hash_of(text);
  std::ofstream(checkpoint / "state.json", std::ios::binary) << text;
  std::ofstream(checkpoint / "manifest.json", std::ios::binary) << sluice::manifest_text(manifest);
}

}  // namespace

// Catches: a save from a device that is gone, which would put torn values over good ones; a destructor that puts something back and ends the process by
// abort(); an error without the step; a resume that does not come out where the run would have. The planted defects: errors of
// a lost device taken for those of a plugin (this goes on to a save, which is met by the dead device; in step 1, below, the code is 3), and statistics put back
// without put_back() (std::terminate ends the process, and the step is not told).
TEST_CASE("a device that is lost in step 4, forward, backward or while a segment runs again: the checkpoint of step 2 stays, and the resume is bit-equal") {
  const ScratchFolder folder;
  write_pipeline(folder.path(), faulty_pipeline());
  const Finished whole = run_in(folder.path(), {"train", "run.dir=whole"}, {});
  INFO(whole.err);
  REQUIRE(whole.code == 0);
  for (const std::string fault : {"forward:4", "backward:4", "again:4", "memory:4"}) {
    CAPTURE(fault);
    const std::string run = "run.dir=" + fault.substr(0, fault.find(':'));
    const fs::path left = folder.path() / fault.substr(0, fault.find(':'));
    // A segment runs again where it is computed twice, which changes no bit.
    const std::vector<std::string> twice = fault == "again:4" ? std::vector<std::string>{"plan.checkpoint=true"} : std::vector<std::string>{};
    const Finished lost = run_in(folder.path(), {"train", run, "env.FIXTURE_FAULT=" + fault}, twice);
    INFO(lost.err);
    CHECK(lost.code == 5);
    CHECK(says(lost.err, "error: cpu was lost in step 4: CUDA error: unspecified launch failure\n  hint: "));
    CHECK(says(lost.err, "Then go on from step-2, the last that is saved, with --resume"));
    check_end(lost);
    CHECK(newest(left) == "step-2");
    if (fault != "forward:4" && fault != "again:4") continue;  // the others end by the same way
    const Finished resumed = run_in(folder.path(), {"train", run, "--resume"}, twice);
    INFO(resumed.err);
    CHECK(resumed.code == 0);
    CHECK(last_weights(left) == last_weights(folder.path() / "whole"));
    CHECK(learnt(left) == learnt(folder.path() / "whole"));
  }
}

// Catches: an assertion that a supervisor would restart for ever, a library's destructor that aborts without a word, a hint to resume from nothing.
TEST_CASE("a kernel's own assertion is code 3 and names --debug; a destructor that throws ends with the message; with nothing saved the run begins anew") {
  const ScratchFolder folder;
  write_pipeline(folder.path(), faulty_pipeline());
  const Finished assertion = run_in(folder.path(), {"train", "env.FIXTURE_FAULT=forward:1", "env.FIXTURE_ASSERTION=1"}, {});
  INFO(assertion.err);
  CHECK(assertion.code == 3);
  CHECK(says(assertion.err, "error: a kernel on cpu failed its assertion in step 1, and the device takes no more work of this process: CUDA error: device-side assert triggered\n"));
  CHECK(says(assertion.err, "--debug names the operation"));
  CHECK(says(assertion.err, "Then begin anew, for nothing was saved yet"));
  check_end(assertion);
  CHECK(newest(folder.path() / "runs/synthetic") == "");
  const Finished destructor = run_in(folder.path(), {"train", "env.FIXTURE_FAULT=destructor:1"}, {});
  INFO(destructor.err);
  CHECK(destructor.code == 5);
  CHECK(says(destructor.err, "error: the device was lost: CUDA error: unspecified launch failure\n"));
  check_end(destructor);
}

// Catches: a verb that gives LibTorch's bare text, an evaluation between steps that is told as a step.
TEST_CASE("evaluations, of a run or of their own, predictions and plans say it too") {
  const ScratchFolder folder;
  write_pipeline(folder.path(), faulty_pipeline());
  const Finished between = run_in(folder.path(), {"train", "env.FIXTURE_FAULT=eval:1"}, {});
  INFO(between.err);
  CHECK(between.code == 5);
  CHECK(says(between.err, "error: cpu was lost in the evaluation after step 6: CUDA error"));
  CHECK(newest(folder.path() / "runs/synthetic") == "step-6");
  const Finished eval = run_in(folder.path(), {"eval", "env.FIXTURE_FAULT=eval:1"}, {});
  INFO(eval.err);
  CHECK(eval.code == 5);
  CHECK(says(eval.err, "error: cpu was lost in the evaluation: CUDA error"));
  check_end(eval);
  std::string videos = faulty_pipeline();
  const auto replace = [&](const std::string& from, const std::string& to) { videos.replace(videos.find(from), from.size(), to); };
  replace("\"source.synthetic\"\ntrain = 68", "\"source.order6\"\nroot = \"order6\"\nframes = 60\nflash = 4\ntrain = 8");
  replace("val = 8", "val = 1");
  replace("[[stage]]\nplugin = \"synthetic.clip\"", "[[stage]]\nplugin = \"frames.uniform\"\nframes = 8\n[[stage]]\nplugin = \"decode.ffmpeg\"");
  const auto file = write_pipeline(folder.path(), videos, "videos.toml");
  REQUIRE(run_sluice({"train", file, "run.dir=videos", "run.steps=1"}, folder.path(), 60).code == 0);
  std::string video;
  for (const auto& entry : fs::recursive_directory_iterator(folder.path() / "order6"))
    if (entry.path().extension() == ".mp4") video = entry.path().string();
  const Finished predict = run_sluice({"predict", file, "run.dir=videos", "env.FIXTURE_FAULT=eval:1", "--video", video}, folder.path(), 60);
  INFO(predict.err);
  CHECK(predict.code == 5);
  CHECK(says(predict.err, "error: cpu was lost in the prediction: CUDA error"));
  check_end(predict);
  // What was measured before would not be measured again.
  const Finished plan = run_in(folder.path(), {"plan", "env.FIXTURE_FAULT=zeros:1", "env.XDG_CACHE_HOME=" + (folder.path() / "cache").string()}, {});
  INFO(plan.err);
  CHECK(plan.code == 5);
  CHECK(says(plan.err, "error: cpu was lost in the start: CUDA error"));
  check_end(plan);
}

// Catches: a resume that begins on another device without a word, and advice ("auto" takes the CPU) that the next attempt would refuse.
TEST_CASE("a device that is not there at the resume: both are named, with what to do, and the checkpoint stays") {
  const ScratchFolder folder;
  write_pipeline(folder.path(), faulty_pipeline());
  REQUIRE(run_in(folder.path(), {"train", "run.steps=2", "data.val=0"}, {}).code == 0);
  const fs::path checkpoint = newest_checkpoint(folder.path() / "runs/synthetic");
  write_device(checkpoint, "cuda");
  for (const auto& [device, now] : std::vector<std::pair<std::string, std::string>>{{"cpu", "run.device = \"cpu\" means cpu here"}, {"cuda:99", "there is no "}}) {
    const Finished resumed = run_in(folder.path(), {"train", "run.steps=2", "data.val=0", "--resume", "run.device=" + device}, {});
    INFO(resumed.err);
    CHECK(resumed.code == 2);
    CHECK(says(resumed.err, "the run that is to go on was trained on cuda, and " + now));
    CHECK(says(resumed.err, "hint: bring the card back"));
    CHECK(says(resumed.err, "model.weights"));
    CHECK_FALSE(says(resumed.err, "\"auto\" takes the CPU"));
    CHECK(newest_checkpoint(folder.path() / "runs/synthetic") == checkpoint);
  }
  // Back again.
  write_device(checkpoint, "cpu");
  CHECK(run_in(folder.path(), {"train", "run.steps=2", "data.val=0", "--resume"}, {}).code == 0);
}
