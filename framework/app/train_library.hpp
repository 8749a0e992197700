// libsluice_train.so, which is loaded only when a pipeline has been found valid, or when LibTorch itself is asked for.
#pragma once

#include "framework/app/loaded.hpp"
#include "framework/train/entry.hpp"

namespace sluice::app {

// Sets [env], loads the library and runs the request in it. Returns the exit code.
int run_behind(TrainRequest& request, Loaded& loaded);

// Throws Error(Code::plugin) where the library cannot be loaded.
[[nodiscard]] LibTorchReport ask_libtorch();
// What a training starts as a child; see framework/train/kernel_audit.hpp. Returns the exit code.
[[nodiscard]] int check_kernels();

}  // namespace sluice::app
