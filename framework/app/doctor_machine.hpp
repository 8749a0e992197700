// The half of `sluice doctor` that looks at the machine.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "framework/app/findings.hpp"
#include "framework/memory/machine.hpp"
#include "framework/memory/nvidia.hpp"
#include "framework/memory/process.hpp"
#include "framework/train/entry.hpp"

namespace sluice::app {

struct Machine {
  Processor processor;
  MachineMemory memory;
  std::optional<CgroupMemory> cgroup;
  std::uint64_t free = 0;  // bytes that a run could take now
  std::vector<ProcessMemory> processes;
  DiskSpace runs, cache;
  std::vector<std::pair<std::string, std::string>> environment;  // variables that matter, where they are set
  NvidiaReport nvidia;
};

// As it is now, before LibTorch is loaded. `runs`: where a run's folder would be.
[[nodiscard]] Machine look_at_machine(const std::filesystem::path& runs);

void judge_machine(const Machine& machine, Findings& findings);
// LibTorch and the devices that it would use.
void judge_devices(const Machine& machine, const LibTorchReport& libtorch, Findings& findings);

// Whether the processor multiplies bf16 or fp16 by instructions of its own.
[[nodiscard]] bool multiplies_bf16(const Processor& processor);
[[nodiscard]] bool multiplies_fp16(const Processor& processor);

}  // namespace sluice::app
