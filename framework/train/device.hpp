// The device that a run trains on.
#pragma once

#include <string>

#include <c10/core/Device.h>

#include "framework/config/pipeline.hpp"
#include "framework/train/entry.hpp"

namespace sluice {

// "auto" takes the first GPU where there is one, else the CPU. Throws Error(Code::configuration) for a device that is not there.
[[nodiscard]] at::Device choose_device(const Placed<std::string>& wanted);

// Same numbers every time, on devices where that is not so anyway. Operations without such a kernel throw, by name.
void demand_deterministic();

// For `sluice doctor`.
[[nodiscard]] LibTorchReport libtorch_report();

}  // namespace sluice
