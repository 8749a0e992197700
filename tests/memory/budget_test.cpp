// The division of host_ram: exact to the byte, and a refusal that can be followed to the letter.
#include <doctest/doctest.h>

#include <string>

#include <sluice/error.hpp>
#include <sluice/rng.hpp>

#include "framework/base/bytes.hpp"
#include "framework/memory/budget.hpp"

using namespace sluice;

namespace {

BudgetNeeds some_needs() {
  BudgetNeeds needs;
  needs[Account::base] = 120 * MiB;
  needs[Account::runtime] = 30 * MiB;
  needs[Account::activations] = 200 * MiB + 1;
  needs[Account::parameters] = 8 * MiB;
  needs.smallest_samples = 20 * MiB + 7;
  needs.what_samples = "a batch of 16";
  return needs;
}

}  // namespace

TEST_CASE("B works and B - 1 is refused, and the refusal names B") {
  const auto needs = some_needs();
  const std::uint64_t smallest = 378 * MiB + 8;
  const auto budget = divide_budget(smallest, needs, "p.toml:3:1");
  CHECK(budget.samples == needs.smallest_samples);
  CHECK(budget.smallest == smallest);
  try {
    static_cast<void>(divide_budget(smallest - 1, needs, "p.toml:3:1"));
    FAIL("it must be refused");
  } catch (const Error& error) {
    CHECK(error.code() == Code::configuration);
    CHECK(error.where() == "p.toml:3:1");
    CHECK(error.hint().find(std::to_string(smallest) + " bytes") != std::string::npos);
    CHECK(error.hint().find("host_ram = \"379MiB\"") != std::string::npos);
    CHECK(error.message().find("activations") != std::string::npos);
    CHECK(error.message().find("a batch of 16") != std::string::npos);
    CHECK(error.message().find("gradients") == std::string::npos);  // needs nothing
  }
}

// Mistake caught: a small network whose least is below what loading the libraries takes.
TEST_CASE("no budget is smaller than what the start of the process takes") {
  auto needs = some_needs();
  needs.start = 400 * MiB;
  CHECK(divide_budget(400 * MiB, needs, "").smallest == 400 * MiB);
  try {
    static_cast<void>(divide_budget(400 * MiB - 1, needs, ""));
    FAIL("it must be refused");
  } catch (const BudgetError& error) {
    CHECK(error.smallest() == 400 * MiB);
    CHECK(error.message().find("start           400 MiB") != std::string::npos);
  }
  needs.start = 300 * MiB;
  CHECK(divide_budget(400 * MiB, needs, "").smallest == 378 * MiB + 8);
}

TEST_CASE("the advice works: 1,000 random needs, refused, then set to what the hint says") {
  Rng rng(abi::RandomKey{1, 0, 0, 0});
  for (int i = 0; i < 1000; ++i) {
    BudgetNeeds needs;
    for (auto& bytes : needs.bytes) bytes = rng.bits() >> (20 + rng.bits() % 40);
    needs[Account::samples] = needs[Account::batches] = 0;
    needs.smallest_samples = 1 + (rng.bits() >> (20 + rng.bits() % 40));
    std::uint64_t smallest = 0;
    try {
      static_cast<void>(divide_budget(0, needs, ""));
    } catch (const Error& error) {
      const auto begin = error.hint().find('"') + 1;
      smallest = parse_bytes(error.hint().substr(begin, error.hint().find('"', begin) - begin));
    }
    const auto budget = divide_budget(smallest, needs, "");
    CHECK(budget.smallest <= smallest);
    CHECK(divide_budget(budget.smallest, needs, "").samples == needs.smallest_samples);
    CHECK_THROWS_AS(static_cast<void>(divide_budget(budget.smallest - 1, needs, "")), Error);
  }
}

TEST_CASE("what is left goes to the samples, up to what is of use; the parts add up") {
  auto needs = some_needs();
  auto budget = divide_budget(1024 * MiB, needs, "");
  std::uint64_t others = 0;
  for (const auto bytes : needs.bytes) others += bytes;
  CHECK(budget.samples + others == 1024 * MiB);
  needs.useful_samples = 50 * MiB;
  budget = divide_budget(1024 * MiB, needs, "");
  CHECK(budget.samples == 50 * MiB);
  CHECK(budget.samples + budget.unused + others == 1024 * MiB);
  CHECK(budget.table.find("unused") != std::string::npos);
  needs.useful_samples = 1;  // nonsense: never below what works
  CHECK(divide_budget(1024 * MiB, needs, "").samples == needs.smallest_samples);
}

// Mistake caught: decoders, batches and samples that are more or less than the share that they divide; a buffer that is counted twice.
TEST_CASE("the samples' share is told by what it is held for") {
  auto needs = some_needs();
  needs.most = {6 * MiB, 0, 12 * MiB};
  needs.what_batches = "up to 3 of 4 MiB";
  needs.checkpoint_buffer = 27 * MiB;
  const auto roomy = divide_budget(1024 * MiB, needs, "");
  CHECK(roomy.split == SampleBytes{6 * MiB, roomy.samples - 18 * MiB, 12 * MiB});
  CHECK(roomy.table.find("decoders") != std::string::npos);
  CHECK(roomy.table.find("up to 3 of 4 MiB") != std::string::npos);
  CHECK(roomy.table.find("the buffer of a checkpoint, 27.0 MiB") != std::string::npos);
  CHECK(roomy.smallest == divide_budget(1024 * MiB, some_needs(), "").smallest);
  needs.most = {15 * MiB, 0, 12 * MiB};  // more than the least share has
  const auto least = divide_budget(roomy.smallest, needs, "");
  CHECK(least.split.total() == least.samples);
  CHECK(least.split.batches == 12 * MiB);
}

TEST_CASE("needs beyond any memory are refused, not wrapped around") {
  auto needs = some_needs();
  needs[Account::activations] = ~std::uint64_t{0} - 5;
  needs[Account::gradients] = ~std::uint64_t{0} - 5;
  CHECK_THROWS_AS(static_cast<void>(divide_budget(std::uint64_t{1} << 40, needs, "")), Error);
}
