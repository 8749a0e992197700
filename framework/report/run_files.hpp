// RunFiles: what a run leaves in its folder for later: metrics.jsonl, failures.jsonl, TensorBoard events. Not thread-safe; the reporter locks.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "framework/report/metrics_log.hpp"
#include "framework/report/tensorboard.hpp"

namespace sluice {

class RunFiles {
 public:
  struct Options {
    std::optional<std::int64_t> resumed_step{};  // nothing: a new run; rows of an earlier one in this folder are moved aside
    bool tensorboard = true;
  };
  // `row` and `failure` see the rows of before that stay.
  RunFiles(const std::filesystem::path& dir, Options options, const std::function<void(std::string_view)>& row,
           const std::function<void(std::string_view)>& failure);

  MetricsLog metrics;
  MetricsLog failures;
  std::optional<EventWriter> events;
  std::int64_t dropped = 0;  // rows of later steps than the one that the run goes on from
  void sync();
};

}  // namespace sluice
