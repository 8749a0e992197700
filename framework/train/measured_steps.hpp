// Memory and time of a pipeline's steps, from a child process that takes a few of them over zeros: nobody else's memory is in the
// figure, and a child that dies is a reason, not the end.
//
//   const MeasuredSteps found = measure_in_child({.arguments = {"measure-plan", "pipeline.toml", "batch.microbatch=4"}});
//   if (!found.fits) print(found.why);
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "framework/report/reporter.hpp"
#include "framework/train/entry.hpp"
#include "framework/train/housekeeping.hpp"

namespace sluice {

// A share of waiting from which on a time says little: threads wait for each other after every kernel.
inline constexpr double busy = 0.1;

struct MeasuredSteps {
  bool fits = false;
  std::uint64_t peak_resident = 0;  // bytes, of the process while it trained
  double seconds = 0;               // a step: the median of those after the first
  int steps = 0;                    // that were timed
  double waited = 0;                // share of that time in which threads waited for a processor that others had
  std::uint64_t smallest = 0;       // the least host_ram that works; 0: not known
  // Seconds of the second run of each outermost segment, all together, where every one is computed twice.
  std::map<std::string, double, std::less<>> again{};
  std::string why{};                // where it does not fit, or could not be measured
  [[nodiscard]] bool disturbed() const { return waited > busy; }
};

struct ChildOptions {
  std::filesystem::path program = "/proc/self/exe";
  std::vector<std::string> arguments{};
  double longest = 30 * 60;           // seconds until it is given up
  std::function<void()> heartbeat{};  // called twice a second and more
};
[[nodiscard]] MeasuredSteps measure_in_child(const ChildOptions& options);

// The child: trains a few whole batches of zeros at the largest shapes, saves nothing, writes one line to standard output. Returns
// its exit code; what is wrong with the pipeline is thrown as ever, for the parent reads standard error.
[[nodiscard]] int measure_plan_in_child(const TrainRequest& request, Housekeeping& housekeeping, Reporter& reporter);

}  // namespace sluice
