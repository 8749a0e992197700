// Seconds of whole steps as they were measured on this machine, for plans that come after: a file for each numeric configuration.
//
//   StepTimes times(cache_folder(), key);
//   times.add(4, {}, 0.52);
//   times.remember();
//   times.plain(4);   // 0.52, in this process and in later ones
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "framework/train/pass.hpp"

namespace sluice {

class StepTimes {
 public:
  StepTimes() = default;  // knows nothing and keeps nothing
  // What cannot be read is as if it were not there; an empty folder keeps nothing.
  StepTimes(std::filesystem::path folder, std::string key);

  // As docs/decisions/0009 and 0012 measured them: the shares by which a step takes longer, where nobody measured here.
  static constexpr double usual_twice = 1.0 / 3, usual_move = 0.07;

  // Of steps that leave all activations where they are, compute all twice, or offload all; what lies between is not kept.
  void add(std::int64_t microbatch, const SegmentPlan& segments, double seconds);
  // Seconds that the second run of each segment takes, in whatever unit; those of an earlier call are forgotten.
  void add_segments(std::map<std::string, double, std::less<>> seconds) { segments_ = std::move(seconds); }
  void remember() const;

  // Of a step that leaves all activations where they are. Between two that were measured in proportion to 1 / microbatch, as the number of passes
  // is; beyond them nothing.
  [[nodiscard]] std::optional<double> plain(std::int64_t microbatch) const;
  // By which share of a plain step one takes longer that computes everything twice; usual_twice where that was not measured: a
  // forward pass beside a forward and a backward pass.
  [[nodiscard]] double twice() const;
  // The same of one that offloads everything; usual_move where that was not measured.
  [[nodiscard]] double move() const;
  // Of the segments, as they were measured; empty: nobody measured.
  [[nodiscard]] const std::map<std::string, double, std::less<>>& segments() const { return segments_; }
  [[nodiscard]] bool empty() const { return plain_.empty(); }

 private:
  std::filesystem::path folder_;
  std::string key_;
  [[nodiscard]] double share_of(const std::map<std::int64_t, double>& longer, double usual) const;
  std::map<std::int64_t, double> plain_, again_, moved_;  // by microbatch
  std::map<std::string, double, std::less<>> segments_;
};

}  // namespace sluice
