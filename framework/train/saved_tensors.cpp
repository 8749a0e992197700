// The one file that knows LibTorch's engine.
#include "framework/train/saved_tensors.hpp"

#include <utility>
#include <vector>

#include <torch/csrc/autograd/engine.h>

namespace sluice {
namespace {

// Hooks are asked for on the thread that runs the forward pass.
std::vector<SavedTensorScope::Factory>& factories() {
  thread_local std::vector<SavedTensorScope::Factory> stack;
  return stack;
}

class HookedEngine final : public torch::autograd::Engine {
 public:
  std::unique_ptr<SavedTensorHooks> get_default_saved_variable_hooks() override {
    return factories().empty() ? nullptr : factories().back()();
  }
};

torch::autograd::Engine& hooked_engine() {
  static auto* engine = std::make_unique<HookedEngine>().release();  // its threads outlive main
  return *engine;
}

}  // namespace

void install_saved_tensor_hooks() { torch::autograd::set_default_engine_stub(hooked_engine); }

SavedTensorScope::SavedTensorScope(Factory factory) {
  install_saved_tensor_hooks();
  factories().push_back(std::move(factory));
}

SavedTensorScope::~SavedTensorScope() { factories().pop_back(); }

}  // namespace sluice
