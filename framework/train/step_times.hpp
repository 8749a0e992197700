// Seconds of whole steps as they were measured on this machine, for plans that come after: a file for each numeric configuration.
//
//   StepTimes times(cache_folder(), key);
//   times.add(4, {}, 0.52);
//   times.remember();
//   times.plain(4);   // 0.52, in this process and in later ones
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "framework/train/pass.hpp"

namespace sluice {

class StepTimes {
 public:
  StepTimes() = default;  // knows nothing and keeps nothing
  // What cannot be read is as if it were not there; an empty folder keeps nothing.
  StepTimes(std::filesystem::path folder, std::string key);

  // Of steps that compute nothing, or everything, twice; what lies between is not kept.
  void add(std::int64_t microbatch, const SegmentPlan& segments, double seconds);
  void remember() const;

  // Of a step that computes nothing twice. Between two that were measured in proportion to 1 / microbatch, as the number of passes
  // is; beyond them nothing.
  [[nodiscard]] std::optional<double> plain(std::int64_t microbatch) const;
  // By which share of a plain step one takes longer that computes everything twice; a third where that was not measured, which is a
  // forward pass beside a forward and a backward pass.
  [[nodiscard]] double twice() const;
  [[nodiscard]] bool empty() const { return plain_.empty(); }

 private:
  std::filesystem::path folder_;
  std::string key_;
  std::map<std::int64_t, double> plain_, again_;  // by microbatch
};

}  // namespace sluice
