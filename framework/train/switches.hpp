// The switches of a pipeline that change its memory and speed: what each would be set to, and what that does to the result.
//
//   const Switches all = switches_of(session);
//   for (const auto& one : all.rows) run({"measure-plan", file, one.overrides()...});
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "framework/train/session.hpp"

namespace sluice {

// What is learnt with it, beside what the plan learns.
enum class Learnt { same, rounding, changes };

// Keys with their values as TOML, which for numbers, words and lists of words is JSON too.
using Keys = std::vector<std::pair<std::string, std::string>>;

struct Switch {
  std::string text;  // "batch.microbatch = 4"
  Keys keys;         // that differ from the plan
  Learnt learnt = Learnt::same;
  std::int64_t batch = 1;  // clips of a step
  std::optional<TrainingPlan> plan{};  // where the planner could choose it by itself
};

struct Switches {
  Keys plan;                // what "as planned" is: each row changes some of it and leaves the rest
  std::vector<Switch> rows;  // "as planned" first
  std::vector<std::string> left_out;  // those that this pipeline, its model or this machine does not allow, and why
  // The whole of a row as KEY=VALUE.
  [[nodiscard]] std::vector<std::string> overrides(const Switch& row) const;
};

// Throws Error(Code::configuration) for a pipeline whose clips go through in chunks.
[[nodiscard]] Switches switches_of(const Session& session);

}  // namespace sluice
