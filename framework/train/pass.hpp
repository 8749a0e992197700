// Pass as the trainer makes it: one forward of a microbatch, whose random decisions follow from the samples alone, and whose
// segments run straight through or are checkpointed as the plan says.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <sluice/torch/pass.hpp>

#include "framework/train/checkpointed_segment.hpp"

namespace sluice {

// Segments by path: "layer2", a second one of the same name "layer2#2", one inside of another "encoder/block".
struct Checkpointing {
  bool all = false;  // every outermost segment
  std::set<std::string, std::less<>> names{};
  [[nodiscard]] bool any() const { return all || !names.empty(); }
  friend bool operator==(const Checkpointing&, const Checkpointing&) = default;
};

struct PassOptions {
  const Checkpointing* checkpointing = nullptr;  // null: none
  std::span<const at::Tensor> statistics{};      // of the model: they move in the first run of a segment alone
  SegmentObserver* observer = nullptr;
};

// Outlives the backward pass of what was computed with it: a segment may run again there.
class MicrobatchPass final : public Pass {
 public:
  MicrobatchPass(bool training, std::vector<std::uint64_t> sample_keys, PassOptions options = {})
      : training_(training), keys_(std::move(sample_keys)), options_(options) {}

  [[nodiscard]] bool training() const override { return training_; }

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
    bool checkpointed = false;                            // it, or one around it
    std::map<std::string, std::uint64_t, std::less<>> runs{};  // of the segments in it, by name
  };
  Tensors run_at(Place place, const Function& function, const Tensors& inputs);

  bool training_;
  std::vector<std::uint64_t> keys_;
  PassOptions options_;
  Place place_;
};

}  // namespace sluice
