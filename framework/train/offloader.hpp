// Activation offload of a pass's segments: what a segment saves for its backward pass waits in host memory (OffloadStore), and comes
// back when that asks for it. As torch.autograd.graph.save_on_cpu, for parts of a network, and a storage is moved once however many
// tensors look at it.
//
// A segment's inputs and outputs stay on the device: they belong to its neighbours too. So do parameters, running statistics and
// tensors below 64 KiB. What comes back has the bits, strides and alignment of what left, so no bit of a gradient changes.
//
// On a GPU copies run on a stream of their own: outwards while the next layers compute (at most two at a time wait for it), and
// inwards ahead of the backward pass, in its order.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "framework/train/checkpointed_segment.hpp"

namespace sluice {

class Offloader : public std::enable_shared_from_this<Offloader> {
 public:
  struct Options {
    std::span<const at::Tensor> lasting{};  // that live on beside the pass: running statistics
    SegmentObserver* observer = nullptr;    // outlives the backward pass
    // Storages that come back before they are asked for; unset: 2 on a GPU, 0 on the CPU.
    std::optional<int> ahead{};
  };
  explicit Offloader(Options options);
  ~Offloader();
  Offloader(const Offloader&) = delete;
  Offloader& operator=(const Offloader&) = delete;

  using Function = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)>;
  // Runs the segment. The graph of what it returns holds this. Throws c10::OutOfMemoryError where the store is full; from within the
  // backward pass Error(Code::plugin) where something was changed in place that the segment had saved.
  [[nodiscard]] std::vector<at::Tensor> run(const std::string& name, const Function& function, const std::vector<at::Tensor>& inputs);

 private:
  struct Storage;   // one that was saved, on the device or in the store
  class Segment;    // the saved tensors of one
  class Saved;      // the hook of one saved tensor
  class Copies;     // of one device

  void wait_to_leave(const std::shared_ptr<Storage>& storage);
  void leave(const std::shared_ptr<Storage>& storage);
  [[nodiscard]] c10::Storage bring_back(Storage& storage);

  Options options_;
  std::mutex mutex_;  // backward passes of several devices have a thread each
  std::unique_ptr<Copies> copies_;
  std::vector<std::weak_ptr<Storage>> order_;  // in which they left
};

}  // namespace sluice
