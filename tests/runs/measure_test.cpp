// `sluice plan --measure`: a row for each switch, each measured in a process of its own, whatever becomes of that process.
#include <doctest/doctest.h>

#include <cstdlib>
#include <map>
#include <optional>

#include <nlohmann/json.hpp>

#include "framework/state/hash.hpp"
#include "tests/runs/own_cache.hpp"
#include "tests/runs/synthetic_run.hpp"

using namespace sluice::testing;

namespace {

// 16 clips large enough that activations are most of what it weighs; one thread, for other work may share the machine.
std::string large_clips(const std::string& batch_norm = "\"frozen\"") {
  std::string text = synthetic_pipeline;
  const auto replace = [&](const std::string& from, const std::string& to) {
    for (auto at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) text.replace(at, from.size(), to);
  };
  replace("plugin = \"synthetic.clip\"", "plugin = \"synthetic.clip\"\n[[stage]]\nplugin = \"augment.resize\"\nsize = [128, 128]");
  replace("size = [24, 24]", "size = [112, 112]");
  replace("compute_threads = 2", "compute_threads = 1");
  replace("train = 68", "train = 16");
  replace("val = 20", "val = 2");
  replace("[batch]\nsize = 8", "[batch]\nsize = 16");
  replace("[loss]", "batch_norm = " + batch_norm + "\n[loss]");
  return text;
}

// The children of a process, with the words they were started with.
std::map<pid_t, std::string> children_of(pid_t parent) {
  std::map<pid_t, std::string> found;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    if (text_of_file(entry.path() / "status").find("PPid:\t" + std::to_string(parent) + "\n") != std::string::npos) found[std::stoi(name)] = text_of_file(entry.path() / "cmdline");
  }
  return found;
}

fs::path file_like(const fs::path& folder, const std::string& beginning) {
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().filename().string().starts_with(beginning)) return entry.path();
  return {};
}

struct Rows {
  nlohmann::json json;
  Finished run;
  [[nodiscard]] bool has(const std::string& name) const { return find(name) != nullptr; }
  [[nodiscard]] const nlohmann::json& operator[](const std::string& name) const {
    const auto* row = find(name);
    INFO(name << " is no row of " << json.dump());
    REQUIRE(row != nullptr);
    return *row;
  }

 private:
  [[nodiscard]] const nlohmann::json* find(const std::string& name) const {
    for (const auto& row : json.at("measured"))
      if (row["switch"] == name) return &row;
    return nullptr;
  }
};

// `killed`: a child with this among its words is killed as soon as it is seen.
Rows measure(const fs::path& file, const fs::path& folder, std::vector<std::string> overrides = {}, const std::string& killed = {}) {
  std::vector<std::string> words{"plan", file, "--measure", "--json"};
  words.insert(words.end(), overrides.begin(), overrides.end());
  SluiceProcess sluice(words, folder);
  bool seen = false;
  while (!killed.empty() && !seen && sluice.look()) {
    for (const auto& [pid, command] : children_of(sluice.pid()))
      if (command.find("measure-plan") != std::string::npos && command.find(killed) != std::string::npos) seen = ::kill(pid, SIGKILL) == 0;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  Rows rows;
  rows.run = sluice.wait(300);
  INFO(rows.run.err);
  REQUIRE(rows.run.code == 0);
  rows.json = nlohmann::json::parse(rows.run.out);
  return rows;
}

}  // namespace

// Catches: a row that is missing or measures another switch than it names, bytes beyond the budget that is named for it.
TEST_CASE("a row for each switch, with bytes, seconds, the least budget, and what is learnt") {
  const ScratchFolder folder;
  const OwnCache cache(folder.path());
  const auto file = write_pipeline(folder.path(), large_clips());
  const Rows rows = measure(file, folder.path());
  const std::uint64_t planned = rows["as planned"]["peak_resident"];
  for (const auto* name : {"batch.microbatch = 8", "batch.microbatch = 4", "batch.microbatch = 2", "batch.microbatch = 1", "plan.checkpoint = true", "plan.layout = \"contiguous\"", "batch.size = 8"}) {
    CAPTURE(name);
    const auto& row = rows[name];
    CHECK(row["fits"] == true);
    CHECK(row["seconds_per_step"].get<double>() > 0);
    CHECK(row["steps"].get<int>() >= 1);
    CHECK(row["peak_resident"].get<std::uint64_t>() <= row["smallest_host_ram"].get<std::uint64_t>());
  }
  // The plan computes nothing twice.
  CHECK(rows.json["plan"]["checkpoint"].empty());
  CHECK_FALSE(rows.has("plan.checkpoint = false"));
  CHECK_FALSE(rows.has("batch.microbatch = 16"));
  constexpr std::uint64_t noticeable = 8 << 20;
  CHECK(rows["plan.checkpoint = true"]["peak_resident"].get<std::uint64_t>() + noticeable < planned);
  CHECK(rows["batch.microbatch = 4"]["peak_resident"].get<std::uint64_t>() + noticeable < planned);
  CHECK(rows["plan.checkpoint = true"]["result"] == "same");
  CHECK(rows["batch.microbatch = 4"]["result"] == "rounding");
  CHECK(rows["batch.microbatch = 4"]["keys"] == nlohmann::json{{"batch.microbatch", 4}});
  CHECK(rows["batch.size = 8"]["result"] == "changes");
  CHECK(rows["batch.size = 8"]["keys"] == nlohmann::json{{"batch.size", 8}, {"batch.microbatch", 8}});
  CHECK_FALSE(fs::exists(folder.path() / "runs"));  // nothing is saved
  // Times are kept for later plans, unless other programs were at work.
  const bool undisturbed = rows["as planned"]["waited"].get<double>() <= 0.1 || rows["batch.microbatch = 4"]["waited"].get<double>() <= 0.1;
  if (!undisturbed) return;
  const fs::path times = file_like(folder.path() / "cache/sluice", "times-");
  REQUIRE(times != fs::path());
  // And those of each segment, which say what is computed twice first.
  if (rows["plan.checkpoint = true"]["waited"].get<double>() > 0.1) return;
  const auto segments = nlohmann::json::parse(text_of_file(times))["segments"];
  for (const auto* name : {"stem", "layer1.0", "layer2.0", "layer3.0", "layer4.0"}) CHECK(segments[name].get<double>() > 0);
}

// Catches: measured times that are not followed, or that are compared with what nobody measured.
TEST_CASE("a plan follows measured times, where there is one for all that fits") {
  const ScratchFolder folder;
  const OwnCache cache(folder.path());
  const auto file = write_pipeline(folder.path(), large_clips());
  const auto plan = [&] {
    const Finished run = run_sluice({"plan", file, "--json"}, folder.path());
    INFO(run.err);
    REQUIRE(run.code == 0);
    return nlohmann::json::parse(run.out);
  };
  CHECK(plan()["plan"]["microbatch"] == 16);
  // As sluice would write it: the key is that of the memory that was measured, after the number of the file's own layout.
  const std::string measured = nlohmann::json::parse(text_of_file(file_like(folder.path() / "cache/sluice", "needs-")))["key"];
  const std::string key = "3" + measured.substr(measured.find(' '));
  const auto write_times = [&](const nlohmann::json& plain) {
    std::ofstream(folder.path() / "cache/sluice" / ("times-" + sluice::hash_of(key) + ".json")) << nlohmann::json{{"key", key}, {"plain", plain}, {"again", nlohmann::json::array()}, {"moved", nlohmann::json::array()}, {"segments", nlohmann::json::object()}};
  };
  write_times({{1, 9.0}, {4, 1.0}, {8, 1.5}, {16, 2.0}});
  CHECK(plan()["plan"]["microbatch"] == 4);
  CHECK(plan()["why"] == "4 at a time cost the least time of all that fits, as measured here, nothing is computed twice");
  write_times({{2, 1.2}, {4, 1.0}, {16, 2.0}});  // none of a single clip, which fits too
  CHECK(plan()["plan"]["microbatch"] == 16);
}

// Catches: a row for offloading where there is nowhere to, one that does not offload, and a plan that offloads in the rows of the others.
TEST_CASE("with device_memory there is a row for offloading, and each row has its segments as it says") {
  const ScratchFolder folder;
  const OwnCache cache(folder.path());
  const auto file = write_pipeline(folder.path(), large_clips("\"batch\""));
  const Rows rows = measure(file, folder.path(), {"batch.size=4", "budget.device_memory=2GiB"});
  CHECK(rows["plan.offload = true"]["result"] == "same");
  CHECK(rows["plan.offload = true"]["peak_resident"] > rows["plan.checkpoint = true"]["peak_resident"].get<std::uint64_t>());
  CHECK_FALSE(rows.has("plan.offload = false"));
}

// Catches: a switch that does not fit, or whose process dies, and takes the others with it; a number that then does not work.
TEST_CASE("a switch that does not fit says what would be enough; one whose process is killed says so") {
  const ScratchFolder folder;
  const OwnCache cache(folder.path());
  const auto file = write_pipeline(folder.path(), large_clips());
  const Finished plan = run_sluice({"plan", file, "--json", "batch.size=8"}, folder.path());
  REQUIRE(plan.code == 0);
  const std::uint64_t smallest = nlohmann::json::parse(plan.out)["smallest_host_ram"];
  const Rows rows = measure(file, folder.path(), {"batch.size=8", "budget.host_ram=" + std::to_string(smallest + (4 << 20))}, "plan.layout=\"contiguous\"");
  CHECK(rows["as planned"]["fits"] == true);
  const auto& whole = rows["batch.microbatch = 8"];
  CHECK(whole["fits"] == false);
  CHECK(whole["why"].get<std::string>().starts_with("needs "));
  const std::uint64_t enough = whole["smallest_host_ram"];
  CHECK(enough > smallest);
  std::vector<std::string> with{"train", file, "run.epochs=1", "batch.size=8"};
  const nlohmann::json as_planned = rows.json["plan"]["checkpoint"];
  with.push_back("plan.checkpoint=" + (as_planned.empty() ? std::string("false") : as_planned.dump()));
  with.push_back("batch.microbatch=8");
  auto below = with;
  with.push_back("budget.host_ram=" + std::to_string(enough));
  below.push_back("budget.host_ram=" + std::to_string(enough - 1));
  const Finished works = run_sluice(with, folder.path());
  INFO(works.err);
  CHECK(works.code == 0);
  CHECK(works.peak_resident <= enough);
  CHECK(run_sluice(below, folder.path()).code == 2);

  const auto& killed = rows["plan.layout = \"contiguous\""];
  CHECK(killed["fits"] == false);
  CHECK(killed["why"] == "killed (SIGKILL), as a system does that is short of memory");
  CHECK(rows["batch.size = 4"].contains("fits"));  // those after it are there
}

// Catches: rows for what batch norm does not allow, a table that nobody can read; a child that goes on when its parent is gone.
TEST_CASE("batch norm over the batch: a table without microbatches; no child outlives the command") {
  const ScratchFolder folder;
  const OwnCache cache(folder.path());
  const auto file = write_pipeline(folder.path(), large_clips("\"batch\""));
  for (const int signal : {SIGTERM, SIGKILL}) {
    SluiceProcess sluice({"plan", file, "--measure", "batch.size=8"}, folder.path());
    pid_t child = -1;
    while (child < 0 && sluice.look()) {
      for (const auto& [pid, command] : children_of(sluice.pid()))
        if (command.find("measure-plan") != std::string::npos) child = pid;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    REQUIRE(child > 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    sluice.kill(signal);
    const Finished run = sluice.wait(30);
    if (signal == SIGTERM) CHECK(run.code == 143);
    std::string left = "?";
    for (int look = 0; look < 400 && !left.empty(); ++look) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      left = text_of_file("/proc/" + std::to_string(child) + "/cmdline");  // empty of a zombie too
    }
    CHECK(left.empty());
  }
  const Finished run = run_sluice({"plan", file, "--measure", "batch.size=8"}, folder.path());
  REQUIRE(run.code == 0);
  INFO(run.out);
  CHECK(run.out.find("\n  batch.microbatch = ") == std::string::npos);
  CHECK(run.out.find("left out: batch.microbatch: batch norm over the whole batch keeps it in one piece") != std::string::npos);
  for (const auto* row : {"\n* as planned  ", "\n  plan.checkpoint = true  ", "\n  plan.layout = \"contiguous\"  ", "\n  batch.size = 4  "}) CHECK(run.out.find(row) != std::string::npos);
  CHECK(run.out.find("the same, bit for bit\n") != std::string::npos);
}

// Catches: a row for checkpointing where nothing can be computed twice, and a plan that does not say what would allow it.
TEST_CASE("a model that names no segments: what naming them would save at most, and no row for it") {
  const ScratchFolder folder;
  const OwnCache cache(folder.path());
  std::string text = synthetic_pipeline;
  const std::string network = "{ plugin = \"backbone.r3d\", depth = 10, width = 8 }", schedule = "[schedule]\nplugin = \"schedule.cosine\"\nwarmup = 0.1\n";
  text.replace(text.find(network), network.size(), "{ plugin = \"backbone.beside_pass\", segments = false }");
  text.erase(text.find(schedule), schedule.size());
  const Finished run = run_sluice({"plan", write_pipeline(folder.path(), text), "--measure", "batch.size=2", "budget.compute_threads=1"}, folder.path());
  INFO(run.out << run.err);
  REQUIRE(run.code == 0);
  CHECK(run.out.find("What it would save: of 4 blocks of like size at most ") != std::string::npos);
  CHECK(run.out.find("left out: plan.checkpoint: the model names no segments\n") != std::string::npos);
  CHECK(run.out.find("\n  plan.checkpoint = ") == std::string::npos);
}

// Catches: steps of whole clips that are taken for a run that never takes one.
TEST_CASE("a pipeline of long clips is refused, with what to do instead") {
  const ScratchFolder folder;
  const OwnCache cache(folder.path());
  const Finished run = run_sluice({"plan", fs::path(SLUICE_SOURCE_DIR) / "pipelines/long_video.toml", "--measure", "data.root=" + (folder.path() / "order6").string(), "data.train=12", "data.val=2",
                                   "data.frames=200", "plan.chunk=64", "run.device=cpu"},
                                  folder.path());
  INFO(run.err);
  CHECK(run.code == 2);
  CHECK(run.err.find("--measure takes steps of whole clips, and this pipeline's go through in chunks of 64 frames") != std::string::npos);
  CHECK(run.err.find("plan.chunk=N") != std::string::npos);
}
