// The pipeline that a run writes down: it must load to the same pipeline, for a resume reads it.
#include <doctest/doctest.h>

#include "framework/config/load.hpp"
#include "framework/config/tables.hpp"
#include "framework/config/toml.hpp"
#include "tests/config/catalogue_of_manifests.hpp"

using namespace sluice;
using namespace sluice::testing;

// Catches a key that is not written, a default that is written differently, a path that stays relative.
TEST_CASE("the canonical form loads to itself") {
  const Folder folder;
  ManifestCatalogue catalogue;
  std::filesystem::create_directories(folder.path() / "mine");
  const std::vector<std::vector<std::string>> variants = {
      {},
      {"run.steps=100", "run.name='a \"quoted\" name'"},
      {"budget.host_ram=auto", "budget.in_flight=7", "batch.microbatch=4", "model.batch_norm={group=4}"},
      {"model.batch_norm=frozen", "model.weights=w.safetensors", "run.precision=bf16", "run.deterministic=true", "run.device='cuda:1'"},
      {"plan.chunk=16", "plan.checkpoint=['layer1', 'layer2']", "env.A='x y'", "env.B=1", "eval.best=-loss"},
      {"stage.2.on=['front', 'left']", "stage.2.independent=true", "data.rename={ a = 'b' }", "data.lists=['x.csv', '/y.csv']", "plugins.path=" + (folder.path() / "mine").string()},
      {"model.backbone=backbone.wide", "optimizer.plugin=optimizer.adam", "optimizer.clip_norm=1e-3", "run.max_failures=0.1", "budget.device_memory=12345678901"},
  };
  for (const auto& overrides : variants) {
    std::string text = right_pipeline;
    if (!overrides.empty() && overrides[0].starts_with("run.steps")) text.erase(text.find("epochs = 6"), 10);
    const Pipeline first = load_pipeline(folder.write("p.toml", text), overrides, catalogue);
    CAPTURE(first.canonical);
    const Pipeline second = load_pipeline(folder.write("elsewhere/q.toml", first.canonical), {}, catalogue);
    CHECK(second.canonical == first.canonical);
    CHECK(second.notices.empty());
  }
}

TEST_CASE("defaults of host and plugins are filled in, unset ones are left out") {
  const Folder folder;
  ManifestCatalogue catalogue;
  const std::string text = load_pipeline(folder.write("p.toml", right_pipeline), {}, catalogue).canonical;
  for (const char* line : {"workers = 2\n", "compute_threads = 2\n", "in_flight = \"auto\"\n", "microbatch = \"auto\"\n", "host_ram = \"1536MiB\"\n", "stride = 2\n", "momentum = 0.9\n", "betas", "warmup = 0.0\n",
                           "backbone = { plugin = \"backbone.small\", width = 16 }\n", "head = { plugin = \"head.linear\", classes = 8, dropout = 0.0 }\n", "batch_norm = \"batch\"\n"}) {
    CAPTURE(line);
    CHECK((text.find(line) != std::string::npos) == (std::string_view(line) != "betas"));
  }
  CHECK(text.find("steps") == std::string::npos);
  CHECK(text.find("short_side") == std::string::npos);
  CHECK(text.find("root = \"" + (folder.path() / "data").string() + "\"") != std::string::npos);
}
