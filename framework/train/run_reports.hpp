// What a session, a step and an evaluation say of themselves, in the reporter's terms; where the run stands is for the caller to add.
#pragma once

#include <cstdint>
#include <optional>

#include "framework/report/reporter.hpp"
#include "framework/train/evaluation.hpp"
#include "framework/train/session.hpp"
#include "framework/train/step.hpp"

namespace sluice {

// `epochs`: 0 where the run is declared in steps. `resumed_step`: nothing where it begins afresh.
[[nodiscard]] RunStart start_of(const Session& session, std::int64_t epochs, std::optional<std::int64_t> resumed_step);
[[nodiscard]] StepReport report_of(const Session& session, const StepResult& result);
[[nodiscard]] EvalReport report_of(const EvalNumbers& numbers);

}  // namespace sluice
