// Pass as the trainer makes it: one forward of a microbatch, whose random decisions follow from the samples alone, and whose
// segments run straight through, are checkpointed or offloaded as the plan says.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <sluice/torch/pass.hpp>

#include "framework/train/checkpointed_segment.hpp"
#include "framework/train/offloader.hpp"

namespace sluice {

// The path of all that a model computes in a pass, where it names no segments and the plan offloads it. No plugin gives such a name.
inline constexpr std::string_view whole_model = "whole model";

// Segments by path: "layer2", a second one of the same name "layer2#2", one inside of another "encoder/block".
struct Segments {
  bool all = false;  // every outermost segment
  std::set<std::string, std::less<>> names{};
  [[nodiscard]] bool any() const { return all || !names.empty(); }
  [[nodiscard]] bool contains(const std::string& path, bool outermost) const { return (all && outermost) || names.contains(path); }
  friend bool operator==(const Segments&, const Segments&) = default;
};

// What becomes of the activations of each segment until the backward pass. One in both is offloaded.
struct SegmentPlan {
  Segments twice{};    // dropped, and computed again
  Segments offload{};  // moved to host memory
  [[nodiscard]] bool any() const { return twice.any() || offload.any(); }
  friend bool operator==(const SegmentPlan&, const SegmentPlan&) = default;
};

struct PassOptions {
  const SegmentPlan* segments = nullptr;  // null: none
  std::span<const at::Tensor> statistics{};      // of the model: they move in the first run of a segment alone
  SegmentObserver* observer = nullptr;
};

// Outlives the backward pass of what was computed with it: a segment may run again there.
class MicrobatchPass final : public Pass {
 public:
  MicrobatchPass(bool training, std::vector<std::uint64_t> sample_keys, PassOptions options = {})
      : training_(training), keys_(std::move(sample_keys)), options_(options) {}

  [[nodiscard]] bool training() const override { return training_; }

  // Whether the plan makes one segment of the model, and runs it so. What is drawn in it is what would be drawn outside of any segment.
  [[nodiscard]] bool whole_is_planned() const;
  [[nodiscard]] Tensors run_whole(Function function, Tensors inputs);

 protected:
  Tensors run_segment(std::string_view name, Function function, Tensors inputs) override;
  at::Tensor run_dropout(const at::Tensor& x, double p, bool whole_sample) override;

 private:
  // Where a draw happens: the segment, and the number of draws before in it. A segment that runs again begins with the same place,
  // so it draws the same.
  struct Place {
    std::uint64_t segment = 0;
    std::uint64_t draws = 0;
    std::string path{};
    bool planned = false;                                 // it, or one around it, is checkpointed or offloaded
    std::map<std::string, std::uint64_t, std::less<>> runs{};  // of the segments in it, by name
  };
  Tensors run_in(Place place, bool outermost, Function function, Tensors inputs);
  Tensors run_at(Place place, const Function& function, const Tensors& inputs);

  bool training_;
  std::vector<std::uint64_t> keys_;
  PassOptions options_;
  Place place_;
  std::shared_ptr<Offloader> offloader_;  // from the first segment that is offloaded on
};

}  // namespace sluice
