// The device that a run trains on.
#pragma once

#include <string>

#include <c10/core/Device.h>

#include "framework/config/pipeline.hpp"
#include "framework/train/entry.hpp"

namespace sluice {

// "auto" takes the first GPU where there is one, else the CPU. Throws Error(Code::configuration) for a device that is not there.
[[nodiscard]] at::Device choose_device(const Placed<std::string>& wanted);
// "cpu", "cuda": what a checkpoint says of the device.
[[nodiscard]] std::string kind_of(at::Device device);
// For a run that goes on: the same, or Error(Code::configuration) that names both where its kind is not `saved`.
[[nodiscard]] at::Device choose_device_again(const Placed<std::string>& wanted, const std::string& saved);

// Same numbers every time, on devices where that is not so anyway. Operations without such a kernel throw, by name.
void demand_deterministic();

// For `sluice doctor`.
[[nodiscard]] LibTorchReport libtorch_report();

}  // namespace sluice
