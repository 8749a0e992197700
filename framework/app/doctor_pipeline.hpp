// The half of `sluice doctor FILE` that looks at a pipeline: would it run here, and now?
#pragma once

#include "framework/app/doctor_machine.hpp"
#include "framework/app/findings.hpp"
#include "framework/app/loaded.hpp"
#include "framework/train/entry.hpp"

namespace sluice::app {

// Configuration, data, plan; then memory, disk and threads of the machine against what the plan needs. Loads LibTorch where the
// configuration is right. What it learnt on the way is in `preflight`.
void judge_pipeline(const PipelineArguments& arguments, bool json, const Machine& machine, Preflight& preflight, Findings& findings);

// Where the run's folder would be; the default where the file does not even load.
[[nodiscard]] std::filesystem::path run_folder_of(const PipelineArguments& arguments);

}  // namespace sluice::app
