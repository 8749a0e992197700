// Divides host_ram between the accounts: what is left for the samples, or a refusal that says what would be enough.
//
//   BudgetNeeds needs;
//   needs.bytes[Account::base] = resident_bytes(); ...
//   needs.smallest_samples = smallest_cap(...);
//   const Budget budget = divide_budget(512 * MiB, needs, pipeline.budget.host_ram.place.text());
//   Ledger samples(budget.samples);
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include <sluice/error.hpp>

#include "framework/memory/ledger.hpp"

namespace sluice {

struct BudgetNeeds {
  // Of each account by itself, all but decoders, samples and batches: measured (base) or by the plan (tensors). 0: needs nothing.
  std::array<std::uint64_t, static_cast<int>(Account::count_)> bytes{};
  std::uint64_t smallest_samples = 0;  // below it a batch cannot come together (smallest_cap() of flow)
  std::uint64_t useful_samples = std::numeric_limits<std::uint64_t>::max();  // more than this would lie idle
  std::uint64_t reuse = 0;  // of freed tensor memory, kept where the budget has it to spare
  std::string what_samples{};  // e.g. "a batch of 16: 15 x 602 KiB + 4.1 MiB", for the table
  SampleBytes most{};               // what decoders and batches may take of the samples' share at once; for the table
  std::string what_batches{};       // e.g. "3 of 3.13 MiB"
  std::string what_decoders{};
  std::uint64_t checkpoint_buffer = 0;  // taken where activations were, between two steps; for the table
  std::uint64_t start = 0;  // what the process holds at the peak of its start, before most of it is given back: no budget is smaller

  [[nodiscard]] std::uint64_t& operator[](Account account) { return bytes[static_cast<std::size_t>(account)]; }
  [[nodiscard]] std::uint64_t operator[](Account account) const { return bytes[static_cast<std::size_t>(account)]; }
};

struct Budget {
  std::uint64_t host_ram = 0;
  std::uint64_t samples = 0;   // the cap of the ledger, decoders and batches included
  SampleBytes split{};         // of it, when all decoders are at work and all batches are full
  std::uint64_t useful = 0;    // of samples: more would lie idle
  std::uint64_t checkpoint = 0;  // the buffer of saving, beside the activations or where they were
  std::uint64_t reserve = 0;   // kept free
  std::uint64_t reuse = 0;     // for freed tensor memory that waits for the next tensor
  std::uint64_t unused = 0;    // beyond what is useful
  std::uint64_t smallest = 0;  // the smallest host_ram that works: one byte less is refused
  std::string table{};         // an account a line
};

// A host_ram that is too small, with the one that is enough.
class BudgetError : public Error {
 public:
  BudgetError(std::uint64_t smallest, std::string what, std::string hint, std::string where)
      : Error(Code::configuration, std::move(what), std::move(hint), std::move(where)), smallest_(smallest) {}
  [[nodiscard]] std::uint64_t smallest() const noexcept { return smallest_; }

 private:
  std::uint64_t smallest_;
};

// Throws BudgetError with the table and the smallest budget when host_ram is below it.
[[nodiscard]] Budget divide_budget(std::uint64_t host_ram, const BudgetNeeds& needs, const std::string& where);

}  // namespace sluice
