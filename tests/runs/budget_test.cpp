// The budget of a whole run: the smallest that works works, one byte less is refused, and neither bytes nor threads go past it.
#include <doctest/doctest.h>

#include <sys/resource.h>

#include "tests/runs/synthetic_run.hpp"
#include "tests/support/memory_cgroup.hpp"

using namespace sluice::testing;

namespace {

// "... at least 190123456 bytes ..."
std::uint64_t bytes_in(const std::string& text) {
  const std::string before = "at least ";
  const auto at = text.find(before);
  return at == std::string::npos ? 0 : std::stoull(text.substr(at + before.size()));
}

}  // namespace

// Catches: an inequality that is off by one, a refusal that names a budget which is refused in turn.
TEST_CASE("a budget that cannot work is refused at once with the smallest that does: that one trains, one byte less does not") {
  const ScratchFolder folder;
  const auto file = write_pipeline(folder.path(), synthetic_pipeline);
  const Finished refused = run_sluice({"train", file, "budget.host_ram=64MiB"}, folder.path());
  INFO(refused.err);
  CHECK(refused.code == 2);
  CHECK_FALSE(fs::exists(folder.path() / "runs/synthetic/checkpoints/step-1"));
  const std::uint64_t smallest = bytes_in(refused.err);
  REQUIRE(smallest > 64 << 20);
  const Finished below = run_sluice({"train", file, "run.epochs=1", "budget.host_ram=" + std::to_string(smallest - 1)}, folder.path());
  CHECK(below.code == 2);
  INFO(below.err);
  CHECK(bytes_in(below.err) == smallest);
  const Finished exact = run_sluice({"train", file, "run.epochs=1", "budget.host_ram=" + std::to_string(smallest)}, folder.path());
  INFO(exact.err);
  CHECK(exact.code == 0);
  CHECK(exact.peak_resident <= smallest);
  MESSAGE("smallest " << smallest << " bytes, resident at the peak " << exact.peak_resident);
}

// Catches: a pool of LibTorch, TBB or OpenCV that takes the machine's number of processors.
TEST_CASE("the process never has more than workers + compute_threads + 4 threads") {
  const ScratchFolder folder;
  const auto file = write_pipeline(folder.path(), synthetic_pipeline);
  for (const auto& [workers, compute] : {std::pair{1, 1}, std::pair{3, 2}, std::pair{7, 1}}) {
    const Finished run = run_sluice({"train", file, "budget.workers=" + std::to_string(workers), "budget.compute_threads=" + std::to_string(compute)}, folder.path());
    INFO(run.err);
    CHECK(run.code == 0);
    CHECK(run.most_threads <= workers + compute + 4);
    CHECK(run.most_threads >= 3);
  }
}

// Planted defect: a stage that takes 64 MiB beside its lease. In a cgroup of exactly the budget it must be the end of the process,
// or the test below that finds no kill could not fail.
TEST_CASE("in a memory cgroup of exactly host_ram the run ends well, and with a stage that hoards 64 MiB it does not") {
  const ScratchFolder folder;
  const auto plain = write_pipeline(folder.path(), synthetic_pipeline);
  // What a pipeline needs is measured, and another one is measured anew: each is asked for its own.
  const auto smallest = [&](const fs::path& file) {
    const std::uint64_t bytes = bytes_in(run_sluice({"train", file, "budget.host_ram=64MiB"}, folder.path()).err);
    REQUIRE(bytes > 0);
    return bytes;
  };
  {
    const std::uint64_t host_ram = smallest(plain);
    const MemoryCgroup cgroup(host_ram);
    const Finished run = run_sluice({"train", plain, "budget.host_ram=" + std::to_string(host_ram)}, folder.path(), 300, cgroup.procs());
    INFO(run.err);
    CHECK(run.signal == 0);
    CHECK(run.code == 0);
    CHECK(run.peak_resident <= host_ram);
  }
  std::string text = synthetic_pipeline;
  text.replace(text.find("[[stage]]\nplugin = \"augment.random_crop\""), 0, "[[stage]]\nplugin = \"fixture.hoarder\"\nmebibytes = 64\n");
  const auto hoarding = write_pipeline(folder.path(), text, "hoarding.toml");
  const std::uint64_t host_ram = smallest(hoarding);
  const std::string budget = "budget.host_ram=" + std::to_string(host_ram);
  const Finished free_run = run_sluice({"train", hoarding, budget}, folder.path());
  INFO(free_run.err);
  REQUIRE(free_run.code == 0);
  CHECK(free_run.peak_resident > host_ram);
  const MemoryCgroup cgroup(host_ram);
  const Finished run = run_sluice({"train", hoarding, budget}, folder.path(), 300, cgroup.procs());
  CHECK((run.signal == SIGKILL || run.code != 0));
}

// Catches: a stage that may take more than it declared, or whose error does not say which stage and sample.
TEST_CASE("a stage that asks for more than it declared is refused by name") {
  const ScratchFolder folder;
  std::string text = synthetic_pipeline;
  text.replace(text.find("[[stage]]\nplugin = \"augment.random_crop\""), 0, "[[stage]]\nplugin = \"fixture.greedy\"\n");
  const Finished run = run_sluice({"train", write_pipeline(folder.path(), text)}, folder.path());
  CHECK(run.code == 3);
  INFO(run.err);
  CHECK(run.err.find("fixture.greedy") != std::string::npos);
}

TEST_CASE("workers and budgets that make no sense are configuration errors with their place") {
  const ScratchFolder folder;
  const auto file = write_pipeline(folder.path(), synthetic_pipeline);
  for (const std::string value : {"budget.workers=0", "budget.workers=-3", "budget.workers=1000000000000000000", "budget.workers=nan", "budget.host_ram=0",
                                  "budget.host_ram=-1GiB", "budget.host_ram=nan", "budget.compute_threads=0", "budget.host_ram=99999999999999999999GiB"}) {
    const Finished run = run_sluice({"train", file, value}, folder.path());
    INFO(value << ": " << run.err);
    CHECK(run.code == 2);
    CHECK(run.err.find(value.substr(0, value.find('='))) != std::string::npos);
    CHECK(run.seconds < 60);
  }
}

// Catches: libraries that crash or hang where a mapping or a thread is refused to them.
TEST_CASE("an address space that is too small is refused, and one that is just enough trains") {
  const ScratchFolder folder;
  const auto file = write_pipeline(folder.path(), synthetic_pipeline);
  rlimit old{};
  getrlimit(RLIMIT_AS, &old);
  const auto run_within = [&](std::uint64_t bytes) {
    const rlimit limited{bytes, old.rlim_max};
    setrlimit(RLIMIT_AS, &limited);
    const Finished run = run_sluice({"train", file, "budget.host_ram=512MiB"}, folder.path());
    setrlimit(RLIMIT_AS, &old);
    return run;
  };
  const std::uint64_t enough = std::uint64_t{1536} << 20;
  const Finished refused = run_within(enough - 1);
  CHECK(refused.code == 2);
  CHECK(refused.err.find("ulimit -v unlimited") != std::string::npos);
  const Finished trained = run_within(enough);
  INFO(trained.err);
  CHECK(trained.code == 0);
}
