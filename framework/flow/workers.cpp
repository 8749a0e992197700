#include "framework/flow/workers.hpp"

#include "framework/memory/machine.hpp"

namespace sluice {

std::int64_t workers_of(const BudgetConfig& budget) { return budget.workers.value > 0 ? budget.workers.value : read_processor().usable(); }

}  // namespace sluice
