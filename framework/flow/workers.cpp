#include "framework/flow/workers.hpp"

#include "framework/base/bytes.hpp"
#include "framework/memory/machine.hpp"

namespace sluice {

std::int64_t workers_of(const BudgetConfig& budget) { return budget.workers.value > 0 ? budget.workers.value : read_processor().usable(); }

std::uint64_t reserve_bytes(std::int64_t workers) { return 24 * MiB + static_cast<std::uint64_t>(workers) * 2 * MiB; }

}  // namespace sluice
