// Activation checkpointing (Chen et al. 2016, arXiv 1604.06174) of one segment: what it saves is dropped, and made again by running
// it a second time when the backward pass first asks. Without reentrant backward passes, as torch.utils.checkpoint has it.
//
// The second run meets the random state, autocast and thread-locals of the first, stops at the last tensor that is still wanted,
// and leaves the running statistics as the first one left them. So the gradient is that of a plain run, bit for bit.
#pragma once

#include <functional>
#include <span>
#include <string>

#include <ATen/core/Tensor.h>

#include <sluice/torch/pass.hpp>

namespace sluice {

// Sees the segments of a pass as they come, in order; for who measures.
class SegmentObserver {
 public:
  virtual ~SegmentObserver() = default;
  virtual void begins(const std::string& path) = 0;
  virtual void ends(const std::string& path, const std::vector<at::Tensor>& outputs) = 0;
  // Of one that is checkpointed: its own backward pass needs what it returned.
  virtual void saves_output(const std::string& path) = 0;
  // The second run of one that is checkpointed, within the backward pass.
  virtual void runs_again(const std::string& path, bool begins) = 0;
  // Of one that is offloaded: the backward pass asks for the first tensor that it saved.
  virtual void comes_back(const std::string& path) = 0;
};

struct SegmentRun {
  std::string name;
  // Runs the segment; a second call draws what the first one drew.
  std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)> function;
  std::vector<at::Tensor> inputs;
  std::span<const at::Tensor> statistics;  // of the whole model; outlives the backward pass
  SegmentObserver* observer = nullptr;     // outlives the backward pass; its begins() and ends() are the caller's
};

// What comes back is that of a plain run; the graph behind it holds the inputs and nothing of the segment's inside.
// Throws Error(Code::plugin) when the segment changes an input in place, now or before its second run, or does otherwise the
// second time than the first; the latter two from within the backward pass. So it does for a tensor that the function captured and that
// was changed in place between the runs, where an operation saves it; one that is only added, say, is not seen.
[[nodiscard]] std::vector<at::Tensor> run_checkpointed(SegmentRun run);

}  // namespace sluice
