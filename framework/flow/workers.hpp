// How many threads decode and augment.
#pragma once

#include <cstdint>

#include "framework/config/pipeline.hpp"

namespace sluice {

// budget.workers, or with "auto" as many as can run at once here: the most that a plan gives to the samples.
[[nodiscard]] std::int64_t workers_of(const BudgetConfig& budget);

}  // namespace sluice
