// Pass as the trainer makes it: one forward of a microbatch, whose random decisions follow from the samples alone.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include <sluice/torch/pass.hpp>

namespace sluice {

// Outlives the backward pass of what was computed with it: a segment may run again there.
class PlainPass final : public Pass {
 public:
  PlainPass(bool training, std::vector<std::uint64_t> sample_keys) : training_(training), keys_(std::move(sample_keys)) {}

  [[nodiscard]] bool training() const override { return training_; }

 protected:
  Tensors run_segment(std::string_view name, Function function, Tensors inputs) override;
  at::Tensor run_dropout(const at::Tensor& x, double p, bool whole_sample) override;

 private:
  // Where a draw happens: the segment, which time it runs in this pass, and the number of draws before in it. A segment that
  // runs again begins with the same place, so it draws the same.
  struct Place {
    std::uint64_t segment = 0;
    std::uint64_t draws = 0;
  };

  bool training_;
  std::vector<std::uint64_t> keys_;
  Place place_;
  std::map<std::string, std::uint64_t, std::less<>> runs_;
};

}  // namespace sluice
