// What a right pipeline becomes: defaults, paths, names, what an override swaps.
#include "framework/config/load.hpp"

#include <doctest/doctest.h>

#include "framework/base/bytes.hpp"
#include "framework/config/problems.hpp"
#include "framework/config/tables.hpp"
#include "tests/config/catalogue_of_manifests.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

Pipeline load(const Folder& folder, const std::string& text, const std::vector<std::string>& overrides = {}) {
  ManifestCatalogue catalogue;
  return load_pipeline(folder.write("p.toml", text), overrides, catalogue);
}

}  // namespace

// Catches: a run that is declared in epochs and cannot be tried for a few steps.
TEST_CASE("run.steps on the command line takes the place of the file's run.epochs, and the other way round in a layer above") {
  const Folder folder;
  const Pipeline tried = load(folder, right_pipeline, {"run.steps=20"});
  CHECK(tried.run.steps.value == 20);
  CHECK_FALSE(tried.run.epochs.given);
  CHECK(tried.canonical.find("epochs") == std::string::npos);
  CHECK_THROWS_WITH_AS(static_cast<void>(load(folder, right_pipeline, {"run.steps=20", "run.epochs=3"})), doctest::Contains("both given"), Error);
}

TEST_CASE("every value is where it belongs, defaults elsewhere") {
  const Folder folder;
  const Pipeline p = load(folder, right_pipeline);
  CHECK(p.run.epochs.value == 6);
  CHECK(p.run.epochs.given);
  CHECK(p.run.steps.value == 0);
  CHECK(p.run.name.value == "p");
  CHECK_FALSE(p.run.name.given);
  CHECK(p.run.dir.value == std::filesystem::current_path() / "runs/p");
  CHECK(p.budget.host_ram.value == 1536 * MiB);
  CHECK(p.budget.host_ram.place.line == 6);
  CHECK(p.budget.workers.value == 2);
  CHECK(p.budget.in_flight.value == 0);
  CHECK(p.data.plugin == "source.list");
  CHECK(*as_text(find(p.data.settings, "root")->value) == (folder.path() / "data").string());
  REQUIRE(p.stages.size() == 3);
  CHECK(p.stages[2].only == "train");
  CHECK(p.stages[2].on == std::vector<std::string>{"clip"});
  CHECK(p.stages[2].plugin.place.line == 21);
  CHECK(p.batch.size.value == 16);
  CHECK(p.model.input.mean == std::vector<double>{0.5, 0.5, 0.5});
  const Table& head = *as_table(find(p.model.plugin.settings, "head")->value);
  CHECK(*as_text(find(head, "plugin")->value) == "head.linear");
  CHECK(std::get<std::int64_t>(find(head, "classes")->value.data) == 8);
  CHECK(p.schedule->plugin == "schedule.cosine");
  CHECK(p.metrics.size() == 1);
  CHECK(p.model.batch_norm.mode == BatchNormConfig::Mode::batch);
  CHECK_FALSE(p.model.weights);
}

TEST_CASE("words, sizes and short forms") {
  const Folder folder;
  const Pipeline p = load(folder, right_pipeline,
                          {"budget.host_ram=auto", "budget.device_memory=6000000000", "budget.in_flight=auto", "batch.microbatch=auto", "model.backbone=backbone.wide",
                           "model.batch_norm={ group = 8 }", "model.weights=w.safetensors", "stage.2.on=front", "run.name=123", "env.A=1", "plan.chunk=16"});
  CHECK(p.budget.host_ram.value == 0);
  CHECK(p.budget.host_ram.given);
  CHECK(p.budget.device_memory.value == 6000000000);
  CHECK(*as_text(find(*as_table(find(p.model.plugin.settings, "backbone")->value), "plugin")->value) == "backbone.wide");
  CHECK(p.model.batch_norm.group == 8);
  CHECK(p.model.weights->value == std::filesystem::current_path() / "w.safetensors");  // the command line's paths start here
  CHECK(p.stages[2].on == std::vector<std::string>{"front"});
  CHECK(p.run.name.value == "123");  // the shell has no quotes
  CHECK(p.environment.at("A") == "1");
  CHECK(p.plan.chunk.value == 16);
}

// The random numbers of a stage are keyed by its name: a second hflip must not reshuffle the first.
TEST_CASE("stages are named by plugin and occurrence") {
  const Folder folder;
  const std::string second = "[[stage]]\nplugin = \"augment.hflip\"\n";
  const Pipeline p = load(folder, right_pipeline + second + second);
  CHECK(p.stages[2].name == "augment.hflip");
  CHECK(p.stages[3].name == "augment.hflip#2");
  CHECK(p.stages[4].name == "augment.hflip#3");
  CHECK(p.stages[0].name == "frames.dense");
}

// Catches a swap that fails on keys of the plugin that went, and one that swallows a misspelt key of its own layer.
TEST_CASE("a plugin swapped by a later layer sheds the keys it does not have, and says so") {
  const Folder folder;
  std::string text = right_pipeline;
  text.replace(text.find("lr = 0.05"), 9, "lr = 0.05\nmomentum = 0.8");
  const Pipeline p = load(folder, text, {"optimizer.plugin=optimizer.adam"});
  CHECK(p.optimizer.plugin.plugin == "optimizer.adam");
  CHECK(std::get<double>(find(p.optimizer.plugin.settings, "lr")->value.data) == 0.05);
  CHECK_FALSE(find(p.optimizer.plugin.settings, "momentum"));
  REQUIRE(p.notices.size() == 1);
  CHECK(p.notices[0].find("optimizer.momentum = 0.8") != std::string::npos);
  CHECK(p.notices[0].find("p.toml:40:1") != std::string::npos);
  CHECK_THROWS_AS(load(folder, text, {"optimizer.plugin=optimizer.adam", "optimizer.momentum=0.9"}), PipelineError);
  text.replace(text.find("optimizer.sgd"), 13, "optimizer.adam");
  CHECK_THROWS_AS(load(folder, text), PipelineError);

  static_cast<void>(folder.write("base.toml", right_pipeline));
  const Pipeline swapped = load(folder, "extends = 'base.toml'\n[model.backbone]\nplugin = \"backbone.wide\"\ndepth = 18\n");
  CHECK(std::get<std::int64_t>(find(*as_table(find(swapped.model.plugin.settings, "backbone")->value), "depth")->value.data) == 18);
  CHECK(swapped.run.epochs.place.file == (folder.path() / "base.toml").string());
}

TEST_CASE("an override that is wrong is reported as the command line") {
  const Folder folder;
  CHECK_THROWS_WITH(static_cast<void>(load(folder, right_pipeline, {"budget.workers=0"})), doctest::Contains("command line: budget.workers=0: budget.workers must be a whole number from 1 to 1024, or \"auto\", not 0"));
  CHECK_THROWS_WITH(static_cast<void>(load(folder, right_pipeline, {"budgte.workers=4"})), doctest::Contains("did you mean budget?"));
  CHECK_THROWS_WITH(static_cast<void>(load(folder, right_pipeline, {"stage.hflip.q=4"})), doctest::Contains("augment.hflip has no key 'q'"));
}

TEST_CASE("plugin paths are relative to their file and known before the plugins are looked up") {
  const Folder folder;
  std::filesystem::create_directories(folder.path() / "mine");
  ManifestCatalogue catalogue;
  const Pipeline p = load_pipeline(folder.write("p.toml", right_pipeline + "[plugins]\npath = ['mine']\n"), {}, catalogue);
  CHECK(p.plugin_paths == std::vector<std::filesystem::path>{folder.path() / "mine"});
  CHECK(catalogue.added == std::vector<std::filesystem::path>{folder.path() / "mine"});
}

TEST_CASE("the reference names every key with type, range and default") {
  const std::string page = key_reference();
  for (const char* row : {"| `workers` | whole number, 1 to 1024, or \"auto\" | `\"auto\"` |", "| `host_ram` | size like \"1536MiB\", at least 16.0 MiB, or \"auto\" | `\"auto\"` |", "| `epochs` | whole number, 1 to 1000000 |  |",
                          "## [[stage]]", "| `only` | one of train, eval |", "## [model.input]", "| `average` | one of prob, score | `\"prob\"` |", "| `chunk` | whole number, 1 to 1048576, or \"auto\" | `\"auto\"` |", "| `checkpoint` | auto, true, false or names | `\"auto\"` |"}) {
    CAPTURE(row);
    CHECK(page.find(row) != std::string::npos);
  }
}
