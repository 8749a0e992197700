// What sluice doctor says of machines that the tests do not have: cards, drivers, little memory, swap.
#include <doctest/doctest.h>

#include <string>

#include "framework/app/doctor_machine.hpp"
#include "framework/base/bytes.hpp"

using namespace sluice;
using namespace sluice::app;

namespace {

Machine usual() {
  Machine machine;
  machine.processor.model = "Some CPU";
  machine.processor.cores = 8;
  machine.processor.flags = {"avx2", "avx512f", "amx_bf16"};
  machine.memory = {16 * GiB, 12 * GiB, 0, 0};
  machine.free = 12 * GiB;
  machine.runs = machine.cache = {"/home/me", 100 * GiB, true};
  machine.nvidia.problem = "no NVIDIA driver is installed";
  return machine;
}

NvidiaCard card() { return {"NVIDIA A30", 8, 0, 24 * GiB, 23 * GiB + 900 * MiB, {}}; }

Finding worst(const Findings& findings) {
  Finding found;
  for (const auto& finding : findings.all())
    if (finding.status > found.status || (found.topic.empty() && finding.status == found.status)) found = finding;
  return found;
}

Finding of_machine(const Machine& machine) {
  Findings findings;
  judge_machine(machine, findings);
  return worst(findings);
}
Finding of_devices(const Machine& machine, const LibTorchReport& libtorch) {
  Findings findings;
  judge_devices(machine, libtorch, findings);
  return worst(findings);
}

const LibTorchReport cpu_build{"2.13.0", "/lib/libtorch_cpu.so", false, 0};
const LibTorchReport cuda_build{"2.13.0", "/lib/libtorch_cpu.so", true, 1};

}  // namespace

// Catches a check that never fires, and one that fires on a machine that is well.
TEST_CASE("a machine that is well has no warning; each thing that is short is one, with what to do") {
  CHECK(of_machine(usual()).status == Finding::Status::ok);
  auto machine = usual();
  machine.free = 100 * MiB;
  CHECK(of_machine(machine).topic == "memory");
  machine = usual();
  machine.memory.swap_total = 4 * GiB;
  machine.memory.swap_free = 3 * GiB;
  CHECK(of_machine(machine).status == Finding::Status::ok);
  machine.memory.swap_free = GiB;
  CHECK(of_machine(machine).topic == "swap");
  machine = usual();
  machine.runs.free = 10 * MiB;
  CHECK(of_machine(machine).topic == "runs");
  machine = usual();
  machine.cache.writable = false;
  CHECK(of_machine(machine).topic == "cache");
  machine = usual();
  machine.processor.flags = {"sse2", "ssse3"};
  CHECK(of_machine(machine).topic == "processor");
  machine = usual();
  machine.environment = {{"LD_PRELOAD", "/usr/lib/libjemalloc.so.2"}};
  CHECK(of_machine(machine).topic == "environment");
  CHECK_FALSE(of_machine(machine).next.empty());
}

// Catches: memory of others that is not seen, an idle card that is called busy, precisions of another generation.
TEST_CASE("cards: free, used by others that are named or hidden, and what they do well") {
  auto machine = usual();
  machine.nvidia = {"550.54", "", {card()}};
  CHECK(of_devices(machine, cuda_build).status == Finding::Status::ok);
  machine.nvidia.cards[0].users = {{4242, 17 * GiB}};
  machine.nvidia.cards[0].free = 7 * GiB;
  const Finding busy = of_devices(machine, cuda_build);
  CHECK(busy.status == Finding::Status::warning);
  CHECK(busy.text.find("card 0: NVIDIA A30, 24.0 GiB, 7.00 GiB free; fp32, TF32, bf16, fp16; other processes on it: 4242 17.0 GiB") == 0);
  machine.nvidia.cards[0].users.clear();
  CHECK(of_devices(machine, cuda_build).status == Finding::Status::warning);
  Findings findings;
  machine.nvidia.cards = {card()};
  machine.nvidia.cards[0].major = 7;
  judge_devices(machine, cuda_build, findings);
  CHECK(findings.all().back().text.find("no bf16") != std::string::npos);
}

TEST_CASE("no CUDA device: the reason is the wheel, the driver, or neither") {
  auto machine = usual();
  CHECK(of_devices(machine, cpu_build).status == Finding::Status::ok);
  machine.nvidia = {"550.54", "", {card()}};
  Finding found = of_devices(machine, cpu_build);
  CHECK(found.status == Finding::Status::warning);
  CHECK(found.next.find("--cuda") != std::string::npos);
  machine = usual();
  found = of_devices(machine, {"2.13.0", "", true, 0});
  CHECK(found.status == Finding::Status::warning);
  CHECK(found.text.find("no NVIDIA driver is installed") != std::string::npos);
}

TEST_CASE("bf16 and fp16 by instructions of the processor") {
  Processor processor;
  CHECK_FALSE(multiplies_bf16(processor));
  processor.flags = {"avx512_bf16"};
  CHECK(multiplies_bf16(processor));
  CHECK_FALSE(multiplies_fp16(processor));
  processor.flags = {"amx_bf16", "amx_fp16"};
  CHECK(multiplies_fp16(processor));
}
