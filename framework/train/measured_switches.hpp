// What each switch does to memory and speed on this machine: a row for each, measured one after the other, as a table or as JSON.
//
//   SwitchTable table(switches);
//   fmt::print("{}", table.heading());
//   measure_switches(switches, request, housekeeping, reporter, [&](const MeasuredSwitch& row) { fmt::print("{}", table.line(row)); });
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "framework/train/measured_steps.hpp"
#include "framework/train/step_times.hpp"
#include "framework/train/switches.hpp"

namespace sluice {

struct MeasuredSwitch {
  Switch what;
  MeasuredSteps found;
};

// Each in a child of its own; `done` is called as each ends.
std::vector<MeasuredSwitch> measure_switches(const Switches& switches, const TrainRequest& request, Housekeeping& housekeeping, Reporter& reporter,
                                             const std::function<void(const MeasuredSwitch&)>& done = {});

// Of the rows that the planner could choose by itself; not of those that shared the processor. Returns how many.
std::size_t add_times(const std::vector<MeasuredSwitch>& rows, StepTimes& times);

[[nodiscard]] nlohmann::ordered_json to_json(const std::vector<MeasuredSwitch>& rows);

// Lines of one width. The first row is what the others are compared with.
class SwitchTable {
 public:
  explicit SwitchTable(const Switches& switches);
  [[nodiscard]] std::string heading() const;
  [[nodiscard]] std::string line(const MeasuredSwitch& row);
  [[nodiscard]] std::string footing() const;  // what was left out, and why

 private:
  const Switches& switches_;
  std::size_t width_ = 0;
  std::optional<MeasuredSwitch> first_;
  double waited_ = 0;
  bool disturbed_ = false;
};

}  // namespace sluice
