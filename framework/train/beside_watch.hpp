// What a model does in training that its Pass does not see, and that depends on how a batch is cut: looks at every operator of a pass.
//
//   BesideWatch watch(model, &recorder);   // begins, and tells `recorder` of the segments
//   options.observer = &watch;             // of a Step
//   step.add_gradients(...);
//   watch.seen().draws;                    // "dropout of the segment 'features' (layer head.drop)"
//
// Of custom operators those are known that call LibTorch's. A pass takes a little more time with it, and no memory.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/record_function.h>

#include <sluice/torch/network.hpp>

#include "framework/train/checkpointed_segment.hpp"

namespace sluice {

struct BesidePass {
  std::string draws{};       // the first operator that draws random numbers of its own, a bare torch::dropout, with its segment. Empty: none
  std::string norm{};        // the first that takes statistics over the batch, with its segment and the tensor that it is known by
  std::string statistics{};  // the first of the model's statistics that moves
  [[nodiscard]] bool any() const { return !draws.empty() || !norm.empty() || !statistics.empty(); }
};

class BesideWatch final : public SegmentObserver {
 public:
  // Until it goes. One at a time; `next` may be null.
  BesideWatch(Model& model, SegmentObserver* next);
  ~BesideWatch() override;
  BesideWatch(const BesideWatch&) = delete;
  BesideWatch& operator=(const BesideWatch&) = delete;

  // Draws and norms; who counts batch norm, and whether statistics moved, is known to the caller.
  [[nodiscard]] BesidePass seen() const;

  void begins(const std::string& path) override;
  void ends(const std::string& path, const std::vector<at::Tensor>& outputs) override;
  void saves_output(const std::string& path) override;
  void runs_again(const std::string& path, bool begins) override;
  void comes_back(const std::string& path) override;

 private:
  static std::unique_ptr<at::ObserverContext> started(const at::RecordFunction& function);
  static void ended(const at::RecordFunction& function, at::ObserverContext* context);
  void look_at(const at::RecordFunction& function);
  [[nodiscard]] std::string place(std::string_view operation) const;
  [[nodiscard]] std::string name_of(const c10::IValue& value) const;

  Model& model_;
  SegmentObserver* next_;
  at::CallbackHandle handle_;
  mutable std::mutex mutex_;  // a device runs its backward pass on a thread of its own
  std::vector<std::string> segments_;  // that are open
  BesidePass seen_;
};

}  // namespace sluice
