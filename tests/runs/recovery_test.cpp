// A budget that is cut in mid-run and restored, in whole runs: what is taken back, what is recorded, and what a resumed run does.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "tests/runs/long_run.hpp"

using namespace sluice::testing;

namespace {

using Json = nlohmann::json;

std::vector<Json> rows_of(const fs::path& run, const std::string& kind) {
  std::vector<Json> rows;
  std::ifstream file(run / "metrics.jsonl");
  for (std::string line; std::getline(file, line);)
    if (auto row = Json::parse(line); row["kind"] == kind) rows.push_back(std::move(row));
  return rows;
}

int count_of(const std::string& text, const std::string& what) {
  int count = 0;
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

// The largest difference of two runs' losses, in parts of the loss.
double losses_apart(const fs::path& one, const fs::path& other) {
  const auto rows = rows_of(one, "step"), others = rows_of(other, "step");
  REQUIRE(rows.size() == others.size());
  double most = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) most = std::max(most, std::abs(rows[i]["loss"].get<double>() - others[i]["loss"].get<double>()) / others[i]["loss"].get<double>());
  return most;
}

// A copy of a run as a kill right after that step would have left it, resumed.
fs::path resumed_from(const ScratchFolder& folder, const fs::path& run, std::int64_t step, std::vector<std::string> command) {
  const fs::path copy = run.string() + fmt::format("-from-{}", step);
  fs::copy(run, copy, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  for (const auto& entry : fs::directory_iterator(copy / "checkpoints")) {
    const auto name = entry.path().filename().string();
    if (name.starts_with("step-") && std::stol(name.substr(5)) > step) fs::remove_all(entry.path());
  }
  command.insert(command.end(), {"run.dir=" + copy.string(), "--resume"});
  const Finished finished = run_sluice(command, folder.path(), 300);
  INFO(finished.err);
  REQUIRE(finished.code == 0);
  return copy;
}

}  // namespace

// M7 of the promises. Mistakes caught: a ladder that is climbed with a failed step on each rung, a smaller plan that stays, a change that is
// recorded nowhere, a run that is killed meanwhile and goes on with another microbatch.
TEST_CASE("a budget that is cut by 40 % in mid-run and restored: two failed steps at most, the plan comes back, and the losses are those of a run that was left alone") {
  const ScratchFolder folder;
  std::string text = synthetic_pipeline;
  const auto replace = [&](const std::string& from, const std::string& to) { text.replace(text.find(from), from.size(), to); };
  replace("epochs = 3", "steps = 32");
  replace("lr = 0.003", "lr = 0.0003");  // so that rounding stays rounding: with ten times that, 4e-8 grows to a twentieth of the loss
  replace("compute_threads = 2", "compute_threads = 1");
  replace("[loss]", "batch_norm = \"frozen\"\n[loss]");
  replace("\"synthetic.clip\"", "\"synthetic.clip\"\nsize = [52, 52]");
  for (int i = 0; i < 2; ++i) replace("size = [24, 24]", "size = [48, 48]");
  replace("plugin = \"schedule.cosine\"\nwarmup = 0.1", "plugin = \"schedule.hog\"");
  replace("every = 2", "every = 5\nkeep = 20");
  replace("val = 20", "val = 0");
  text += "[plan]\ncheckpoint = false\noffload = false\n";
  const auto file = write_pipeline(folder.path(), text);
  const auto train = [&](const std::string& name, std::vector<std::string> more) {
    more.insert(more.begin(), {"train", file, "run.dir=" + (folder.path() / name).string()});
    const Finished finished = run_sluice(more, folder.path(), 300);
    INFO(finished.err);
    REQUIRE(finished.code == 0);
    return finished;
  };
  const Finished plan = run_sluice({"plan", file, "batch.microbatch=8", "--json"}, folder.path());
  INFO(plan.err);
  REQUIRE(plan.code == 0);
  // The tensors' share, on the CPU too: what else a process holds has no part in it.
  const auto json = Json::parse(plan.out);
  std::uint64_t share = 0;
  for (const auto* account : {"parameters", "gradients", "optimizer", "activations"}) share += json["accounts"][account].get<std::uint64_t>();
  share = share * 21 / 20;
  const auto budget = fmt::format("budget.device_memory={}", share);
  const std::vector<std::string> cut{budget, fmt::format("schedule.kib={}", share * 4 / 10 / 1024), "schedule.from=6", "schedule.until=12"};

  train("alone", {budget});
  const Finished finished = train("cut", cut);
  INFO(finished.err);
  const auto run = folder.path() / "cut";
  const int failed = count_of(finished.err, "out of memory, the step is undone");
  CHECK(failed >= 1);
  CHECK(failed <= 2);
  const auto changes = rows_of(run, "plan");
  REQUIRE(changes.size() == 2);
  const auto planned = Json::parse(text_of_file(newest_checkpoint(run) / "state.json"))["plan"]["microbatch"].get<int>();
  CHECK(changes[0]["step"] == 6);
  CHECK(changes[0]["microbatch"].get<int>() < planned);
  CHECK(changes[1]["step"] == 26);
  CHECK(changes[1]["microbatch"] == planned);
  const auto apart = losses_apart(run, folder.path() / "alone");
  CHECK(apart < 1e-3);
  // Planted: a rate that is a thirtieth off, as much as one lost update of 32.
  train("slower", {budget, "optimizer.lr=0.00029"});
  CHECK(losses_apart(folder.path() / "slower", folder.path() / "alone") > 1e-3);
  MESSAGE(failed, " failed steps, ", changes[0]["microbatch"].get<int>(), " at a time instead of ", planned, " until step 26, losses off by at most ", apart);

  auto command = cut;
  command.insert(command.begin(), {"train", file});
  const auto resumed = resumed_from(folder, run, 10, command);
  CHECK(last_weights(resumed) == last_weights(run));
  CHECK(learnt(resumed) == learnt(run));
  CHECK(rows_of(resumed, "plan").size() == 2);
}

// Mistakes caught: chunks that stay small until the run ends, ones that grow while the memory is held by another, a change that is recorded
// nowhere, a resumed run that begins with the planned chunk and learns something else.
TEST_CASE("chunks that were made smaller for want of memory are those of the plan again once there is room, and a resumed run does the same") {
  const ScratchFolder folder;
  std::string text = long_pipeline;
  const auto replace = [&](const std::string& from, const std::string& to) { text.replace(text.find(from), from.size(), to); };
  replace("epochs = 2", "steps = 32");
  replace("compute_threads = 2", "compute_threads = 1");
  replace("[budget]", "[plugins]\npath = [\"@BINARY@/tests/plugins\"]\n[budget]\ndevice_memory = \"100MiB\"");
  replace("\"model.long_recognizer\"\nwidth = 6\nlayers = 2", "\"model.hungry_long\"\nextra = 256");  // 66 MiB for 64 frames
  replace("size = 4", "size = 1");
  replace("val = 4", "val = 0");
  replace("frames = 200", "frames = 140");
  replace("every = 1", "every = 5\nkeep = 20");
  text += "[schedule]\nplugin = \"schedule.hog\"\n";
  const auto file = write_pipeline(folder.path(), text);
  const std::vector<std::string> cut{"schedule.kib=61440", "schedule.from=6", "schedule.until=10"};
  const Result alone = train_long(folder, {}, true, text), run = train_long(folder, cut, true, text);
  INFO(run.finished.err);
  CHECK(count_of(run.finished.err, "out of memory, what was not whole is undone") == 2);
  CHECK(says(run.finished.err, "step 6: out of memory"));
  CHECK(says(run.finished.err, "32 frames at a time instead of 64 from here on"));
  const auto changes = rows_of(run.run, "plan");
  REQUIRE(changes.size() == 2);
  CHECK(changes[0]["step"] == 6);
  CHECK(changes[0]["chunk"] == 32);
  CHECK(changes[1]["step"] == 26);
  CHECK(changes[1]["chunk"] == 64);
  CHECK(says(run.finished.err, "step 26: 20 steps went well with 32 frames at a time: as planned again, 64"));
  CHECK(losses_apart(run.run, alone.run) < 1e-3);

  std::vector<std::string> command{"train", file};
  command.insert(command.end(), cut.begin(), cut.end());
  for (const std::int64_t step : {10, 25}) {
    CAPTURE(step);
    const auto resumed = resumed_from(folder, run.run, step, command);
    CHECK(last_weights(resumed) == run.weights);
    CHECK(learnt(resumed) == run.rows);
    CHECK(rows_of(resumed, "plan").size() == 2);
  }
}
