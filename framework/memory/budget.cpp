// The arithmetic of host_ram. Exact: the smallest budget it names works, one byte less does not.
#include "framework/memory/budget.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "framework/base/bytes.hpp"

namespace sluice {
namespace {

constexpr std::uint64_t most = std::uint64_t{1} << 62;

std::uint64_t add(std::uint64_t a, std::uint64_t b) { return a > most || b > most - std::min(a, most) ? most : a + b; }

std::string line(std::string_view name, std::uint64_t bytes, std::string_view note) {
  return fmt::format("  {:<12} {:>10}{}{}\n", name, format_bytes(bytes), note.empty() ? "" : "   ", note);
}

}  // namespace

Budget divide_budget(std::uint64_t host_ram, const BudgetNeeds& needs, const std::string& where) {
  Budget budget;
  budget.host_ram = host_ram;
  std::uint64_t others = 0;
  for (int i = 0; i < static_cast<int>(Account::count_); ++i) {
    const auto account = static_cast<Account>(i);
    if (account == Account::samples || account == Account::decoders || account == Account::batches || needs[account] == 0) continue;
    others = add(others, needs[account]);
    const bool buffer = account == Account::activations && needs.checkpoint_buffer > 0;
    budget.table += line(name_of(account), needs[account], buffer ? fmt::format("between steps the buffer of a checkpoint, {}", format_bytes(needs.checkpoint_buffer)) : std::string());
  }
  const std::uint64_t together = add(others, needs.smallest_samples);
  budget.smallest = std::max(together, needs.start);
  if (host_ram < budget.smallest) {
    budget.table += line("samples", needs.smallest_samples, needs.what_samples.empty() ? "the least" : "the least: " + needs.what_samples);
    budget.table += line("together", together, "");
    if (needs.start > together) budget.table += line("start", needs.start, "of the process, until it has loaded its libraries and given back what that alone took");
    const bool alike = format_bytes(host_ram) == format_bytes(budget.smallest);
    const auto shown = [alike](std::uint64_t bytes) { return alike ? fmt::format("{} bytes", bytes) : format_bytes(bytes); };
    throw BudgetError(budget.smallest, fmt::format("the budget is too small: host_ram is {}, and this pipeline needs {}\n{}", shown(host_ram), shown(budget.smallest), budget.table),
                      fmt::format("set host_ram = \"{}\" (at least {} bytes), or need less: a smaller batch.size, fewer or smaller frames", bytes_to_write(budget.smallest), budget.smallest),
                      where);
  }
  const auto left = host_ram - others;
  budget.useful = std::max(needs.useful_samples, needs.smallest_samples);
  budget.reserve = needs[Account::reserve];
  budget.samples = std::min(left, budget.useful);
  budget.reuse = std::min(left - budget.samples, needs.reuse);
  budget.unused = left - budget.samples - budget.reuse;
  budget.checkpoint = std::max(needs.checkpoint_buffer, needs[Account::checkpoint]);
  budget.split.batches = std::min(budget.samples, needs.most.batches);
  budget.split.decoders = std::min(budget.samples - budget.split.batches, needs.most.decoders);
  budget.split.samples = budget.samples - budget.split.batches - budget.split.decoders;
  const auto as_room_comes = [](const std::string& what, std::uint64_t given, std::uint64_t most) { return given < most && !what.empty() ? what + ", as room comes" : what; };
  if (budget.split.decoders > 0) budget.table += line("decoders", budget.split.decoders, as_room_comes(needs.what_decoders, budget.split.decoders, needs.most.decoders));
  if (budget.split.batches > 0) budget.table += line("batches", budget.split.batches, as_room_comes(needs.what_batches, budget.split.batches, needs.most.batches));
  if (budget.split.samples > 0)
    budget.table += line("samples", budget.split.samples, needs.what_samples.empty() ? "" : fmt::format("with decoders and batches at least {}: {}", format_bytes(needs.smallest_samples), needs.what_samples));
  if (budget.reuse > 0) budget.table += line("reuse", budget.reuse, "freed tensor memory, kept for the next tensor");
  if (budget.unused > 0) budget.table += line("unused", budget.unused, "");
  budget.table += line("together", host_ram, "");
  return budget;
}

}  // namespace sluice
