#include "framework/flow/workers.hpp"

#include "framework/base/bytes.hpp"
#include "framework/memory/machine.hpp"

namespace sluice {

std::int64_t workers_of(const BudgetConfig& budget) {
  static const std::int64_t cores = read_processor().usable();
  return budget.workers.value > 0 ? budget.workers.value : cores;
}

std::uint64_t reserve_bytes(std::int64_t workers) { return 12 * MiB + static_cast<std::uint64_t>(workers) * 2 * MiB; }

}  // namespace sluice
