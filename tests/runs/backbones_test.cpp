// Networks are a name on the command line: each trains without compiling anything, with the published number of parameters.
#include <doctest/doctest.h>

#include "tests/runs/synthetic_run.hpp"

using namespace sluice::testing;

// Counts for 400 classes as torchvision and PyTorchVideo publish them. Catches: a backbone that is not found by name, keys of the old
// backbone that stay behind, a layer too many.
TEST_CASE("r3d_18, mc3_18, r2plus1d_18 and slow_r50 chosen on the command line train") {
  const ScratchFolder folder;
  const auto file = write_pipeline(folder.path(), synthetic_pipeline);
  for (const auto& [name, parameters] : {std::pair{"r3d_18", "33,371,472"}, std::pair{"mc3_18", "11,695,440"}, std::pair{"r2plus1d_18", "31,505,325"}, std::pair{"slow_r50", "32,454,096"}}) {
    const auto run = folder.path() / name;
    const Finished finished = run_sluice({"train", file, "model.backbone={plugin=\"backbone." + std::string(name) + "\"}", "data.classes=400", "data.train=8", "data.val=4", "batch.size=4",
                                          "run.epochs=1", "run.dir=" + run.string(), "budget.host_ram=2GiB"},
                                         folder.path(), 300);
    INFO(name << ": " << finished.err << finished.out);
    CHECK(finished.code == 0);
    CHECK(finished.out.find(std::string(parameters) + " parameters") != std::string::npos);
    CHECK(learnt(run).size() == 3);
    CHECK(finished.peak_resident <= std::uint64_t{2} << 30);
  }
}
