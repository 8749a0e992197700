// How many threads decode and augment, and what is kept free for them.
#pragma once

#include <cstdint>

#include "framework/config/pipeline.hpp"

namespace sluice {

// budget.workers, or with "auto" as many as can run at once here: the most that a plan gives to the samples.
[[nodiscard]] std::int64_t workers_of(const BudgetConfig& budget);

// What is kept free beside all that is measured: stacks and malloc of the workers, decoders' tables, log, checkpoint.
[[nodiscard]] std::uint64_t reserve_bytes(std::int64_t workers);

}  // namespace sluice
