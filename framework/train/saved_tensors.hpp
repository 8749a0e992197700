// What autograd saves for the backward pass goes through hooks while a scope lives: the ground of checkpointing and offload.
//
//   const SavedTensorScope scope([&] { return std::make_unique<MyHooks>(); });
//   y = layer(x);   // one MyHooks for each tensor that the graph saves, parameters and views among them
//
// LibTorch offers this to Python alone; here an engine of our own takes the default one's place (tests/libtorch_contract).
#pragma once

#include <functional>
#include <memory>

#include <torch/csrc/autograd/saved_variable_hooks.h>

namespace sluice {

using SavedTensorHooks = torch::autograd::SavedVariableHooks;

// Once, before the first backward pass: an engine that has started keeps its threads.
void install_saved_tensor_hooks();

// Of the thread that makes it; the innermost counts.
class SavedTensorScope {
 public:
  using Factory = std::function<std::unique_ptr<SavedTensorHooks>()>;
  explicit SavedTensorScope(Factory factory);
  ~SavedTensorScope();
  SavedTensorScope(const SavedTensorScope&) = delete;
  SavedTensorScope& operator=(const SavedTensorScope&) = delete;
};

}  // namespace sluice
