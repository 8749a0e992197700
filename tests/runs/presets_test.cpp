// Every overlay of pipelines/presets is valid, plans, and trains two steps of a small network within its host_ram.
#include <doctest/doctest.h>

#include <cstdlib>

#include "tests/runs/synthetic_run.hpp"

using namespace sluice::testing;

namespace {

// "6GiB" of the line `key = "6GiB"...`; 0 where the preset does not set it.
std::uint64_t gibibytes_of(const std::string& text, const std::string& key) {
  const auto at = text.find("\n" + key + " = \"");
  if (at == std::string::npos) return 0;
  const std::string value = text.substr(at + key.size() + 5);
  REQUIRE(value.find("GiB") < value.find('"'));
  return std::stoull(value) << 30;
}

}  // namespace

// Catches: a key that was renamed, a batch that cannot be cut and does not fit, a device_memory that the CPU stumbles over, and a
// header whose command names another file.
TEST_CASE("presets") {
  const ScratchFolder folder;
  setenv("XDG_CACHE_HOME", (folder.path() / "cache").c_str(), 1);
  const std::string pipeline = std::string(SLUICE_SOURCE_DIR) + "/pipelines/motion8.toml";
  std::vector<fs::path> presets;
  for (const auto& entry : fs::directory_iterator(std::string(SLUICE_SOURCE_DIR) + "/pipelines/presets"))
    if (entry.path().extension() == ".toml") presets.push_back(entry.path());
  std::sort(presets.begin(), presets.end());
  CHECK(presets.size() >= 19);
  const std::string table = text_of_file(std::string(SLUICE_SOURCE_DIR) + "/pipelines/presets/README.md");
  for (const auto& preset : presets) {
    const std::string name = preset.stem().string(), text = text_of_file(preset);
    INFO(name);
    CHECK(text.find("--with pipelines/presets/" + name + ".toml") != std::string::npos);
    const bool row_of_its_own = !name.starts_with("card_") && !name.starts_with("ram_");
    if (row_of_its_own) CHECK(table.find("`" + name + "`") != std::string::npos);
    const std::vector<std::string> small{"data.root=" + (folder.path() / "motion8").string(), "data.train=32", "data.val=8", "data.size=32", "model.backbone.width=8", "run.device=cpu", "run.name=" + name};
    const auto with = [&](std::vector<std::string> command) {
      for (const auto& word : {pipeline, std::string("--with"), preset.string()}) command.push_back(word);
      command.insert(command.end(), small.begin(), small.end());
      return command;
    };
    auto train = with({"train"});
    train.emplace_back("run.steps=2");
    const Finished run = run_sluice(train, folder.path());
    INFO(run.err << run.out);
    CHECK(run.code == 0);
    if (const auto host_ram = gibibytes_of(text, "host_ram"); host_ram > 0) CHECK(run.peak_resident <= host_ram);
    const Finished planned = run_sluice(with({"plan", "--json"}), folder.path());
    REQUIRE(planned.code == 0);
    const auto plan = nlohmann::json::parse(planned.out);
    if (const auto host_ram = gibibytes_of(text, "host_ram"); host_ram > 0) CHECK(plan["host_ram"] == host_ram);
    CHECK(plan["smallest_host_ram"] <= plan["host_ram"]);
    const auto rows = learnt(folder.path() / "runs" / name);
    REQUIRE(rows.size() >= 2);
    if (const auto at = text.find("\nsize = "); at != std::string::npos) CHECK(nlohmann::json::parse(rows.front())["clips"] == std::stoi(text.substr(at + 8)));
  }
}
