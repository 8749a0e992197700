// The plan of a whole run: what `sluice plan` says is what training does, it fits, and it changes nothing that is learnt.
#include <doctest/doctest.h>

#include <regex>

#include <nlohmann/json.hpp>

#include "framework/memory/machine.hpp"
#include "tests/runs/own_cache.hpp"
#include "tests/runs/synthetic_run.hpp"

using namespace sluice::testing;

namespace {

// Of clips large enough that activations are most of what it weighs.
std::string large_clips(const std::string& batch_norm, int side = 112) {
  std::string text = synthetic_pipeline;
  const auto replace = [&](const std::string& from, const std::string& to) {
    for (auto at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) text.replace(at, from.size(), to);
  };
  replace("plugin = \"synthetic.clip\"", "plugin = \"synthetic.clip\"\n[[stage]]\nplugin = \"augment.resize\"\nsize = [128, 128]");
  replace("size = [24, 24]", "size = [" + std::to_string(side) + ", " + std::to_string(side) + "]");
  replace("train = 68", "train = 16");
  replace("val = 20", "val = 8");
  replace("[loss]", "batch_norm = " + batch_norm + "\n[loss]");
  return text;
}

struct Plan {
  nlohmann::json json;
  std::string text;
  [[nodiscard]] std::uint64_t smallest() const { return json["smallest_host_ram"]; }
};

// Of what was learnt the steps: how many clips an evaluation takes at a time may change the last bits of its sums.
std::vector<std::string> steps_of(const fs::path& run) {
  auto rows = learnt(run);
  std::erase_if(rows, [](const std::string& row) { return row.find("\"kind\":\"step\"") == std::string::npos; });
  return rows;
}

// Bytes of these accounts at the peak of each step.
std::vector<std::uint64_t> of_steps(const fs::path& run, const std::vector<const char*>& accounts) {
  std::vector<std::uint64_t> all;
  std::ifstream file(run / "metrics.jsonl");
  for (std::string line; std::getline(file, line);) {
    const auto row = nlohmann::json::parse(line);
    if (row["kind"] != "step") continue;
    all.push_back(0);
    for (const char* account : accounts) all.back() += row["memory"].value(account, std::uint64_t{0});
  }
  return all;
}
std::vector<std::uint64_t> tensors_of_steps(const fs::path& run) { return of_steps(run, {"parameters", "gradients", "optimizer", "activations"}); }

// The section [plan] of a run's plan.toml.
std::string pinned_by(const fs::path& run) {
  std::ifstream file(run / "plan.toml");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto at = text.find("[plan]");
  return at == std::string::npos ? "" : text.substr(at);
}

Plan plan_of(const fs::path& file, const fs::path& folder, std::vector<std::string> overrides = {}) {
  std::vector<std::string> words{"plan", file, "--json"};
  words.insert(words.end(), overrides.begin(), overrides.end());
  const Finished run = run_sluice(words, folder);
  INFO(run.err);
  REQUIRE(run.code == 0);
  return {nlohmann::json::parse(run.out), run.out};
}

}  // namespace

// Catches: an account that is left out or counted twice; a start that measures for longer than the four steps that the design allows, or again
// what it knows; another plan at a later start.
TEST_CASE("a plan's accounts add up to the budget, and it costs at most four steps to find, once") {
  for (const char* norm : {"\"batch\"", "\"frozen\""}) {
    CAPTURE(norm);
    const ScratchFolder folder;
    const OwnCache cache(folder.path());
    const auto file = write_pipeline(folder.path(), large_clips(norm));
    const Plan first = plan_of(file, folder.path());
    std::uint64_t sum = 0;
    for (const auto& [account, bytes] : first.json["accounts"].items()) sum += bytes.get<std::uint64_t>();
    CHECK(sum == first.json["host_ram"].get<std::uint64_t>());
    for (const char* account : {"base", "runtime", "samples", "batches", "parameters", "gradients", "optimizer", "activations", "reserve"}) {
      CAPTURE(account);
      CHECK(first.json["accounts"][account] > 0);
    }
    CHECK(first.json["checkpoint_buffer"] > 0);  // weights lie with the channels last
    CHECK(first.json["probing"]["passes"] > 0);
    CHECK(first.json["probing"]["steps"] <= 4.0);
    MESSAGE("batch norm ", norm, ": ", first.json["probing"].dump());
    const Plan later = plan_of(file, folder.path());
    CHECK(later.json["probing"]["passes"] == 0);
    CHECK(later.json["plan"] == first.json["plan"]);
    CHECK(plan_of(file, folder.path(), {"plan.layout=contiguous"}).json["layout"] == "contiguous");
  }
}

// Catches: a plan that is not followed, a smallest budget that does not work or is not the smallest, weights that depend on the budget.
TEST_CASE("batch norm over the batch: the budget decides what is computed twice, down to the smallest, and the weights stay the same bits") {
  const ScratchFolder folder;
  const OwnCache cache(folder.path());
  const auto file = write_pipeline(folder.path(), large_clips("\"batch\"", 128));
  const Plan roomy = plan_of(file, folder.path());
  CHECK(roomy.json["plan"]["microbatch"] == 8);
  CHECK(roomy.json["plan"]["checkpoint"].empty());
  REQUIRE(roomy.json["segments"].size() == 5);
  const std::uint64_t smallest = roomy.smallest();
  const std::uint64_t plain = roomy.json["steps"][0]["host_ram"];
  INFO("smallest " << smallest << ", without checkpointing " << plain);
  REQUIRE(smallest + (8 << 20) < plain);

  const Finished whole = run_sluice({"train", file, "run.epochs=2", "run.dir=whole"}, folder.path());
  INFO(whole.err);
  REQUIRE(whole.code == 0);
  bool some = false;
  for (const std::uint64_t host_ram : {smallest, (smallest + plain) / 2}) {
    const std::string budget = "budget.host_ram=" + std::to_string(host_ram);
    const Plan tight = plan_of(file, folder.path(), {budget});
    CHECK(tight.json["plan"]["microbatch"] == 8);
    CHECK_FALSE(tight.json["plan"]["checkpoint"].empty());
    some = some || tight.json["plan"]["checkpoint"].size() < 5;
    CHECK(tight.smallest() == smallest);
    auto later = plan_of(file, folder.path(), {budget}).json, first = tight.json;
    CHECK(later["probing"]["passes"] == 0);  // all that differs
    later.erase("probing");
    first.erase("probing");
    CHECK(later.dump() == first.dump());
    fs::remove_all(folder.path() / "tight");
    const Finished run = run_sluice({"train", file, "run.epochs=2", "run.dir=tight", budget}, folder.path());
    INFO(run.err);
    REQUIRE(run.code == 0);
    CHECK(run.peak_resident <= host_ram);
    CHECK(last_weights(folder.path() / "tight") == last_weights(folder.path() / "whole"));
    REQUIRE(steps_of(folder.path() / "whole").size() == 4);
    CHECK(steps_of(folder.path() / "tight") == steps_of(folder.path() / "whole"));
  }
  CHECK(some);
  const Finished below = run_sluice({"train", file, "budget.host_ram=" + std::to_string(smallest - 1)}, folder.path());
  CHECK(below.code == 2);
  CHECK(below.err.find(std::to_string(smallest) + " bytes") != std::string::npos);
}

// Catches: a microbatch that does not follow the budget, or one that a resumed run chooses anew.
TEST_CASE("frozen batch norm: the microbatch follows the budget, and a resumed run keeps its own") {
  const ScratchFolder folder;
  const auto file = write_pipeline(folder.path(), large_clips("\"frozen\""));
  const Plan roomy = plan_of(file, folder.path());
  CHECK(roomy.json["plan"]["microbatch"] == 8);
  REQUIRE(roomy.json["steps"].size() > 3);
  // Enough for two at a time, by the prediction.
  std::uint64_t two = 0;
  for (const auto& step : roomy.json["steps"])
    if (step["microbatch"] == 2 && step["checkpoint"].empty()) two = step["host_ram"];
  REQUIRE(two > 0);
  const std::string budget = "budget.host_ram=" + std::to_string(std::max(two, roomy.smallest()) + (1 << 20));
  const Plan tight = plan_of(file, folder.path(), {budget});
  CHECK(tight.json["plan"]["microbatch"].get<int>() < 8);
  CHECK(tight.json["plan"]["checkpoint"].empty());
  const int chosen = tight.json["plan"]["microbatch"];

  const Finished first = run_sluice({"train", file, "run.epochs=2", "run.dir=run", budget}, folder.path());
  INFO(first.err);
  REQUIRE(first.code == 0);
  CHECK(first.peak_resident <= std::max(two, roomy.smallest()) + (1 << 20));
  // The plan of that run, with all the memory there is.
  const Finished replayed = run_sluice({"train", file, "run.epochs=2", "run.dir=replayed", "--plan", "run/plan.toml"}, folder.path());
  INFO(replayed.err);
  REQUIRE(replayed.code == 0);
  CHECK(last_weights(folder.path() / "replayed") == last_weights(folder.path() / "run"));
  const std::string plan = text_of_file(folder.path() / "replayed/plan.toml");
  CHECK(plan.find("microbatch = " + std::to_string(chosen) + "\n") != std::string::npos);
  // What the pipeline says otherwise gives way to the plan.
  CHECK(plan.find("[run]\nprecision = \"fp32\"\n\n[budget]\nworkers = 2\ncompute_threads = 2\n") != std::string::npos);
  std::ofstream(folder.path() / "other.toml") << "extends = \"" << fs::path(file).filename().string() << "\"\n[run]\nprecision = \"bf16\"\n[budget]\nworkers = 1\ncompute_threads = 1\n";
  const Finished other = run_sluice({"train", "other.toml", "run.epochs=2", "run.dir=other", "--plan", "run/plan.toml"}, folder.path());
  INFO(other.err);
  REQUIRE(other.code == 0);
  CHECK(last_weights(folder.path() / "other") == last_weights(folder.path() / "run"));
  const Finished whole = run_sluice({"train", file, "run.epochs=2", "run.dir=whole"}, folder.path());
  REQUIRE(whole.code == 0);
  CHECK(last_weights(folder.path() / "whole") != last_weights(folder.path() / "run"));  // or the plan would not have to be kept
  // Resumed with all the memory there is.
  const Finished resumed = run_sluice({"train", file, "run.epochs=2", "run.dir=run", "--resume"}, folder.path());
  INFO(resumed.err);
  CHECK(resumed.code == 0);
  CHECK(resumed.out.find("8 clips, " + std::to_string(chosen) + " at a time") != std::string::npos);
}

// Catches: advice that does not work, or asks for more than is needed: smaller groups than would fit. By one at most: what the libraries keep of a
// group is foreseen from other passes.
TEST_CASE("batch norm over the batch that does not fit: the refusal names a group that does, and frozen; both are followed to the letter") {
  const ScratchFolder folder;
  const auto file = write_pipeline(folder.path(), large_clips("\"batch\""));
  const std::uint64_t smallest = plan_of(file, folder.path()).smallest(), of_groups = plan_of(file, folder.path(), {"model.batch_norm={ group = 1 }"}).smallest();
  REQUIRE(of_groups < smallest);
  const std::string budget = "budget.host_ram=" + std::to_string((smallest + of_groups) / 2);
  const Finished refused = run_sluice({"train", file, budget}, folder.path());
  CHECK(refused.code == 2);
  INFO(refused.err);
  std::smatch advice;
  REQUIRE(std::regex_search(refused.err, advice, std::regex(R"(model\.batch_norm = (\{ group = ([0-9]+) \}) \(statistics over [0-9]+ clips? at a time\), or ("frozen"))")));
  const int group = std::stoi(advice[2]);
  CHECK(group > 1);
  for (const std::string& value : {advice[1].str(), advice[3].str()}) {
    CAPTURE(value);
    fs::remove_all(folder.path() / "run");
    const Finished run = run_sluice({"train", file, "run.epochs=1", "run.dir=run", budget, "model.batch_norm=" + value}, folder.path());
    INFO(run.err);
    CHECK(run.code == 0);
    CHECK(run.err.find("out of memory") == std::string::npos);
  }
  const Finished more = run_sluice({"plan", file, budget, "model.batch_norm={ group = " + std::to_string(group + 2) + " }"}, folder.path());
  CHECK(more.code == 2);
  REQUIRE(std::regex_search(more.err, advice, std::regex(R"(model\.batch_norm = \{ group = ([0-9]+) \}, which is another network)")));
  CHECK(std::abs(std::stoi(advice[1]) - group) <= 1);
}

// Catches: a single clip that is left over, in a batch, at the end of an epoch or of an evaluation, and needs more than two at a time.
TEST_CASE("at the smallest budget a rest of one clip fits too, and the number that a refusal names is that of the plan") {
  const ScratchFolder folder;
  const auto file = write_pipeline(folder.path(), large_clips("\"frozen\""));
  for (const auto& sizes : std::vector<std::vector<std::string>>{{"batch.size=3"}, {"batch.size=7", "batch.microbatch=2", "data.train=14"}, {"data.train=9"}, {"data.val=9"}}) {
    CAPTURE(sizes.front());
    const auto with = [&](std::vector<std::string> words) {
      words.insert(words.end(), sizes.begin(), sizes.end());
      return words;
    };
    const std::uint64_t smallest = plan_of(file, folder.path(), sizes).smallest();
    const std::string budget = "budget.host_ram=" + std::to_string(smallest);
    fs::remove_all(folder.path() / "run");
    const Finished run = run_sluice(with({"train", file, "run.epochs=1", "run.dir=run", budget}), folder.path());
    INFO(run.err);
    CHECK(run.code == 0);
    CHECK(run.err.find("out of memory") == std::string::npos);
    CHECK(run.peak_resident <= smallest);
    const Finished below = run_sluice(with({"check", file, "budget.host_ram=" + std::to_string(smallest - 1)}), folder.path());
    CHECK(below.code == 2);
    CHECK(below.err.find("at least " + std::to_string(smallest) + " bytes") != std::string::npos);
  }
}

// Catches: microbatches, chosen by the budget, that change what a model draws or counts without its Pass; draws from a generator of the
// model's own, norms without running statistics, or beside frozen ones, that nobody looks for; a dropout that is off, a norm of each
// clip or a counted one taken for such.
TEST_CASE("a model that draws, normalises or moves statistics beside its Pass keeps its batch whole; a cut is refused by name") {
  const ScratchFolder folder;
  std::string text = synthetic_pipeline;
  const std::string network = "{ plugin = \"backbone.r3d\", depth = 10, width = 8 }", schedule = "[schedule]\nplugin = \"schedule.cosine\"\nwarmup = 0.1\n";
  text.replace(text.find(network), network.size(), "{ plugin = \"backbone.beside_pass\" }");
  text.erase(text.find(schedule), schedule.size());
  const auto file = write_pipeline(folder.path(), text);
  const auto set = [](const std::string& field) { return "model.backbone." + field; };
  using Words = std::vector<std::string>;
  const Words frozen_beside{set("counted=true"), "model.batch_norm=frozen"};
  const auto with = [](Words words, const Words& more) {
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };

  struct Case {
    Words words;
    std::string seen, hint;
  };
  const std::string draws = " draws random numbers beside its Pass", norm = " takes statistics over the batch and counts as no batch norm", moves = "running_mean moves in training";
  const std::vector<Case> cases{
      {{set("dropout=0.3")}, "dropout of the segment 'features'" + draws, "use pass.dropout(x, p)"},
      {{set("layer=0.3"), set("segments=false")}, "dropout outside of any segment (layer drop)" + draws, "use pass.dropout(x, p)"},
      {{set("generator=true")}, "bernoulli_ of the segment 'features'" + draws, "use pass.dropout(x, p)"},
      {{set("norm=batch")}, "batch_norm of the segment 'features'" + norm, "count it in batch_norms()"},
      {with(frozen_beside, {set("norm=running")}), "batch_norm of the segment 'features' (running_mean)" + norm, "count it in batch_norms()"},
      {{set("statistics=true")}, moves, "count it in batch_norms()"},
  };
  for (const auto& [words, seen, hint] : cases) {
    CAPTURE(seen);
    const Finished cut = run_sluice(with({"check", file, "batch.microbatch=4"}, words), folder.path());
    INFO(cut.err);
    CHECK(cut.code == 2);
    CHECK(cut.err.find(seen) != std::string::npos);
    CHECK(cut.err.find("microbatches of 4 would") != std::string::npos);
    CHECK(cut.err.find(hint) != std::string::npos);
  }
  for (const auto* kept : {&cases[0], &cases[3], &cases[5]}) {
    CAPTURE(kept->seen);
    const Plan plan = plan_of(file, folder.path(), kept->words);
    CHECK(plan.json["why"].get<std::string>().starts_with("the batch stays whole, for " + kept->seen));
    for (const auto& step : plan.json["steps"]) CHECK(step["microbatch"] == 8);
  }
  // Neither: the batch may be cut.
  for (const Words& words : std::vector<Words>{{"budget.host_ram=auto", set("norm=clip")}, with(frozen_beside, {"budget.host_ram=auto"})}) {
    CAPTURE(words.front());
    CHECK(plan_of(file, folder.path(), words).json["steps"].size() > 2);
  }
  // Counted, and over groups that the user chose: another norm is taken over them too.
  CHECK(plan_of(file, folder.path(), {set("counted=true"), set("norm=batch"), "model.batch_norm={ group = 4 }"}).json["plan"]["microbatch"] == 4);

  // Interrupted and resumed, it draws what it would have drawn; computed twice too.
  const std::string dropout = set("dropout=0.3");
  REQUIRE(run_sluice({"train", file, dropout, "run.epochs=2", "run.dir=straight"}, folder.path()).code == 0);
  REQUIRE(run_sluice({"train", file, dropout, "run.epochs=1", "run.dir=resumed"}, folder.path()).code == 0);
  const Finished resumed = run_sluice({"train", file, dropout, "run.epochs=2", "run.dir=resumed", "--resume", "plan.checkpoint=true"}, folder.path());
  INFO(resumed.err);
  REQUIRE(resumed.code == 0);
  CHECK(last_weights(folder.path() / "resumed") == last_weights(folder.path() / "straight"));
}

// Catches: a pin that is ignored, a name that is wrong and goes unnoticed.
TEST_CASE("[plan] pins are honoured or refused") {
  const ScratchFolder folder;
  const auto file = write_pipeline(folder.path(), large_clips("\"batch\""));
  CHECK(plan_of(file, folder.path(), {"plan.checkpoint=['layer1.0','stem']"}).json["plan"]["checkpoint"] == nlohmann::json::array({"layer1.0", "stem"}));
  const Plan all = plan_of(file, folder.path(), {"plan.checkpoint=true"});
  CHECK(all.json["plan"]["checkpoint"] == true);
  const Plan none = plan_of(file, folder.path(), {"plan.checkpoint=false"});
  CHECK(none.json["plan"]["checkpoint"].empty());
  CHECK(none.smallest() > all.smallest());
  const Finished unknown = run_sluice({"plan", file, "plan.checkpoint=['layer1.0','layr2.0']"}, folder.path());
  CHECK(unknown.code == 2);
  CHECK(unknown.err.find("plan.checkpoint names 'layr2.0', and the model has no such segment") != std::string::npos);
  CHECK(unknown.err.find("did you mean layer2.0? it has: stem, layer1.0, layer2.0, layer3.0, layer4.0") != std::string::npos);
  const Finished refused = run_sluice({"train", file, "plan.checkpoint=false", "budget.host_ram=" + std::to_string((all.smallest() + none.smallest()) / 2)}, folder.path());
  CHECK(refused.code == 2);
  CHECK(refused.err.find("plan.checkpoint = \"auto\"") != std::string::npos);
  std::ofstream(folder.path() / "wrong.toml") << "[batch]\nmicrobatch = 8\nsize = 4\n";
  std::ofstream(folder.path() / "empty.toml") << "# nothing\n";
  CHECK(run_sluice({"train", file, "--plan", "empty.toml"}, folder.path()).err.starts_with("empty.toml: this is no whole plan: it lacks batch.microbatch"));
  const Finished wrong = run_sluice({"train", file, "--plan", "wrong.toml"}, folder.path());
  CHECK(wrong.code == 2);
  CHECK(wrong.err.starts_with("wrong.toml:3:1: a plan has no 'batch.size'"));
}

// Catches: measurements of a start without a device that a later one with a device takes for its own, a pinned "whole model" that is measured and
// remembered for a model with segments of its own, names that nobody has and nobody refuses.
TEST_CASE("the whole model as a segment: for a model that names none, whatever was measured before; refused where it names some") {
  const ScratchFolder folder;
  const OwnCache cache(folder.path());
  std::string text = synthetic_pipeline;
  const std::string network = "{ plugin = \"backbone.r3d\", depth = 10, width = 8 }", schedule = "[schedule]\nplugin = \"schedule.cosine\"\nwarmup = 0.1\n";
  const auto file = write_pipeline(folder.path(), text);
  text.replace(text.find(network), network.size(), "{ plugin = \"backbone.beside_pass\", segments = false }");
  text.erase(text.find(schedule), schedule.size());
  fs::create_directories(folder.path() / "unnamed");
  const std::string unnamed = write_pipeline(folder.path() / "unnamed", text);
  const auto without = plan_of(unnamed, folder.path()).json;
  CHECK(without["segments"].empty());
  const auto with = plan_of(unnamed, folder.path(), {"budget.device_memory=512MiB"}).json;
  CHECK(with["plan"]["offload"].empty());
  CHECK(with["segments"][0]["name"] == "whole model");
  CHECK(plan_of(unnamed, folder.path(), {"plan.offload=true", "budget.device_memory=512MiB"}).json["plan"]["offload"] == nlohmann::json::array({"whole model"}));
  CHECK(plan_of(unnamed, folder.path()).json["plan"] == without["plan"]);
  const auto refusal_of = [&](const std::string& pipeline, const std::string& pin) {
    const Finished run = run_sluice({"plan", pipeline, pin}, folder.path());
    CHECK(run.code == 2);
    return run.err;
  };
  CHECK(refusal_of(unnamed, "plan.checkpoint=['stem']").find("plan.checkpoint names 'stem', and the model names no segments") != std::string::npos);
  const std::string cold = refusal_of(file, "plan.checkpoint=['whole model']");
  CHECK(cold.find("\"whole model\" is the one segment of a model that names none, and this model names its own") != std::string::npos);
  CHECK(cold.find("stem, layer1.0, layer2.0") != std::string::npos);
  const auto named = plan_of(file, folder.path(), {"plan.checkpoint=['stem']"}).json;
  CHECK(named["plan"]["checkpoint"] == nlohmann::json::array({"stem"}));
  CHECK(refusal_of(file, "plan.checkpoint=['whole model']").find("this model names its own") != std::string::npos);
  // An evaluation takes no more clips at once than there are.
  CHECK(plan_of(file, folder.path(), {"eval.microbatch=100000"}).json["plan"]["eval_microbatch"] == 20);
}

// Catches: workers that push out of the budget what has to be there, a smallest budget that counts threads which need not be, a number
// that was pinned and is not followed, and workers that change what is learnt.
TEST_CASE("workers that are left open: one for each core where there is room, one at the smallest budget; a pinned number stays") {
  const ScratchFolder folder;
  std::string text = large_clips("\"batch\"");
  text.erase(text.find("workers = "), text.find('\n', text.find("workers = ")) - text.find("workers = "));
  const auto file = write_pipeline(folder.path(), text);
  const Plan roomy = plan_of(file, folder.path());
  CHECK(roomy.json["workers"] == sluice::read_processor().usable());
  CHECK(roomy.json["batches_in_flight"] == 3);
  const std::string smallest = "budget.host_ram=" + std::to_string(roomy.smallest());
  const Plan least = plan_of(file, folder.path(), {smallest});
  CHECK(least.json["workers"] == 1);
  CHECK(least.json["batches_in_flight"] < 3);
  CHECK(plan_of(file, folder.path(), {"budget.workers=7"}).json["workers"] == 7);
  // Two threads that have to be there cost what the reserve has for one.
  CHECK(plan_of(file, folder.path(), {"budget.workers=2"}).smallest() == roomy.smallest() + (2 << 20));

  const Finished one = run_sluice({"train", file, "run.epochs=1", "run.dir=one", smallest}, folder.path());
  INFO(one.err);
  REQUIRE(one.code == 0);
  CHECK(one.out.find("1 thread for the data") != std::string::npos);
  CHECK(one.peak_resident <= roomy.smallest());
  const Finished many = run_sluice({"train", file, "run.epochs=1", "run.dir=many", "budget.workers=7"}, folder.path());
  REQUIRE(many.code == 0);
  CHECK(last_weights(folder.path() / "one") == last_weights(folder.path() / "many"));
}

// Catches: a device_memory that is not kept, one that changes what is learnt, a smallest one that does not work or is not the smallest.
TEST_CASE("device_memory on the CPU bounds the tensors: the plan of a card, tried without one; what does not fit is offloaded") {
  const ScratchFolder folder;
  const auto file = write_pipeline(folder.path(), large_clips("\"batch\""));
  const Plan roomy = plan_of(file, folder.path());
  const auto& accounts = roomy.json["accounts"];
  std::uint64_t tensors = 0;
  for (const char* account : {"parameters", "gradients", "optimizer", "activations"}) tensors += accounts[account].get<std::uint64_t>();
  const Plan of_card = plan_of(file, folder.path(), {"budget.device_memory=" + std::to_string(tensors)});
  CHECK(of_card.json["plan"]["offload"].empty());
  const std::uint64_t smallest = of_card.json["smallest_device_memory"];
  REQUIRE(smallest < tensors);
  CHECK(smallest <= roomy.json["smallest_device_memory"].get<std::uint64_t>());
  const Finished whole = run_sluice({"train", file, "run.epochs=1", "run.dir=whole"}, folder.path());
  REQUIRE(whole.code == 0);
  for (const std::uint64_t device : {smallest, (smallest + tensors) / 2}) {
    const std::string budget = "budget.device_memory=" + std::to_string(device);
    const auto plan = plan_of(file, folder.path(), {budget}).json;
    CHECK_FALSE(plan["plan"]["offload"].empty());
    CHECK(plan["accounts"]["offload"] > 0);
    fs::remove_all(folder.path() / "card");
    const Finished run = run_sluice({"train", file, "run.epochs=1", "run.dir=card", budget}, folder.path());
    INFO(run.err);
    REQUIRE(run.code == 0);
    CHECK(run.err.find("out of memory") == std::string::npos);
    CHECK(last_weights(folder.path() / "card") == last_weights(folder.path() / "whole"));
    for (const std::uint64_t held : tensors_of_steps(folder.path() / "card")) CHECK(held <= device);
    for (const std::uint64_t moved : of_steps(folder.path() / "card", {"offload"})) {
      CHECK(moved > 0);
      CHECK(moved <= plan["accounts"]["offload"].get<std::uint64_t>());
    }
    // The same again, by the file that the run left.
    fs::remove_all(folder.path() / "replay");
    const Finished replay = run_sluice({"train", file, "--plan", "card/plan.toml", "run.epochs=1", "run.dir=replay", budget}, folder.path());
    INFO(replay.err);
    REQUIRE(replay.code == 0);
    CHECK(pinned_by(folder.path() / "card").find("offload = [") != std::string::npos);
    CHECK(pinned_by(folder.path() / "replay") == pinned_by(folder.path() / "card"));
    CHECK(last_weights(folder.path() / "replay") == last_weights(folder.path() / "whole"));
  }
  const Finished below = run_sluice({"train", file, "budget.device_memory=" + std::to_string(smallest - 1)}, folder.path());
  CHECK(below.code == 2);
  CHECK(below.err.find(std::to_string(smallest) + " bytes") != std::string::npos);
  CHECK(below.err.find("budget.device_memory") != std::string::npos);
  // Pinned: honoured where there is a device to move out of, refused where there is none.
  const std::string plenty = "budget.device_memory=" + std::to_string(2 * tensors);
  CHECK(plan_of(file, folder.path(), {plenty, "plan.offload=['layer1.0','stem']"}).json["plan"]["offload"] == nlohmann::json::array({"layer1.0", "stem"}));
  CHECK(plan_of(file, folder.path(), {plenty, "plan.offload=true"}).json["plan"]["offload"] == true);
  CHECK(plan_of(file, folder.path(), {"budget.device_memory=" + std::to_string(roomy.json["smallest_device_memory"].get<std::uint64_t>()), "plan.offload=false"}).json["plan"]["offload"].empty());
  // A device with more than host_ram has: the host holds what is offloaded beside the tensors that there are, and nothing else is cut.
  const auto large = plan_of(file, folder.path(), {"budget.device_memory=64GiB", "plan.offload=true"}).json;
  CHECK(large["plan"]["offload"] == true);
  CHECK(large["why"] != "");
  CHECK(large["plan"]["eval_microbatch"] == roomy.json["plan"]["eval_microbatch"]);
  const Finished nowhere = run_sluice({"plan", file, "plan.offload=true"}, folder.path());
  CHECK(nowhere.code == 2);
  CHECK(nowhere.err.find("plan.offload moves activations out of the device's memory, and here they are in the host's already") != std::string::npos);
  const Finished unknown = run_sluice({"plan", file, plenty, "plan.offload=['layr1.0']"}, folder.path());
  CHECK(unknown.code == 2);
  CHECK(unknown.err.find("plan.offload names 'layr1.0', and the model has no such segment") != std::string::npos);
}

// Catches: a row of the table with a budget that is refused, for the start of the process takes more than its plan; a least that names another plan than the one
// that it gets.
TEST_CASE("no row is below what the start takes, and the least names the plan that it gets") {
  const ScratchFolder folder;
  const OwnCache cache(folder.path());
  const std::string file = std::string(SLUICE_SOURCE_DIR) + "/pipelines/motion8.toml";
  for (const char* precision : {"fp32", "bf16"}) {
    CAPTURE(precision);
    std::vector<std::string> words{"data.root=" + (folder.path() / "motion8").string(), "data.train=32", "data.val=8", "data.size=32", "model.backbone.width=4", "model.batch_norm=frozen", "batch.size=4",
                                   "budget.compute_threads=1", "budget.workers=1", std::string("run.precision=") + precision, "run.device=cpu"};
    const Plan roomy = plan_of(file, folder.path(), words);
    auto below = words;
    below.insert(below.begin(), {"check", file});
    below.push_back("budget.host_ram=" + std::to_string(roomy.smallest() - 1));
    const Finished refused = run_sluice(below, folder.path());
    INFO(refused.err);
    CHECK(refused.code == 2);
    const bool by_the_start = refused.err.find("\n  start ") != std::string::npos;
    MESSAGE(std::string(precision) << ": the least, " << (roomy.smallest() >> 20) << " MiB, is that of the " << std::string(by_the_start ? "start" : "plan"));
    if (by_the_start)
      for (const auto& row : roomy.json["steps"]) CHECK(row["host_ram"] >= roomy.smallest());
    words.push_back("budget.host_ram=" + std::to_string(roomy.smallest()));
    const Plan least = plan_of(file, folder.path(), words);
    CHECK(least.json["plan"]["microbatch"] == roomy.json["smallest_plan"]["microbatch"]);
    CHECK(least.json["plan"]["checkpoint"] == roomy.json["smallest_plan"]["checkpoint"]);
  }
}
