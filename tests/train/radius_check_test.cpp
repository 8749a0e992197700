// A declared radius is checked before it is trusted: what would give a wrong gradient is refused, with what was seen.
#include <ATen/core/Tensor.h>
#include <c10/util/Logging.h>  // its CHECK gives way to doctest's, which comes after it
#include <doctest/doctest.h>

#include <string>

#include "framework/train/radius_check.hpp"
#include "long_fakes.hpp"

using namespace sluice;
using namespace sluice::fakes;

namespace {

std::string refusal(const LongKind& kind) {
  LongModel model(3, kind);
  const Assembler assembler = make_assembler(20, 6);
  try {
    check_radius(model, assembler, chunking_of(model, 16));
  } catch (const Error& error) {
    return error.message() + " | " + error.hint();
  }
  return {};
}

bool says(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("a right radius passes, with or without a stride, and a larger one than needed too") {
  for (const std::int64_t declared : {2, 3, 7}) {
    CAPTURE(declared);
    CHECK(refusal({.declared = declared}) == "");
    CHECK(refusal({.type = at::kFloat, .declared = declared}) == "");
    CHECK(refusal({.declared = declared, .stride = 2}) == "");
    CHECK(refusal({.declared = declared, .dropout = 0.5}) == "");
  }
}

// Catches: a radius that is trusted; each of these would train, and silently on a wrong gradient.
TEST_CASE("a radius that is too small is refused with the one that was seen") {
  CHECK(says(refusal({.declared = 1}), "declares a temporal radius of 1, and its features see 2 frames"));
  CHECK(says(refusal({.type = at::kFloat, .declared = 0}), "declares a temporal radius of 0, and its features see 2 frames"));
  CHECK(says(refusal({.declared = 1, .stride = 2}), "and its features see"));
  CHECK(says(refusal({.declared = -1}), "at least 0"));
}

TEST_CASE("what depends on the whole clip, on the place in the chunk or on other random numbers is refused") {
  CHECK(says(refusal({.norm_over_time = true}), "or more"));
  CHECK(says(refusal({.norm_over_time = true}), "norm over time"));
  CHECK(says(refusal({.counts_time = true}), "than in the whole clip"));
  CHECK(says(refusal({.bare_random = true}), "pass.dropout"));
  CHECK(says(refusal({.moves = true}), "frozen"));
}

TEST_CASE("the check leaves weights and statistics as they were") {
  LongModel model(3, {.moves = false}), fresh(3, {.moves = false});
  check_radius(model, make_assembler(20, 6), chunking_of(model, 16));
  for (std::size_t i = 0; i < model.weights().size(); ++i) CHECK(model.weights()[i].tensor.equal(fresh.weights()[i].tensor));
  LongModel moving(3, {.moves = true});
  CHECK_THROWS_AS(check_radius(moving, make_assembler(20, 6), chunking_of(moving, 16)), Error);
  CHECK(moving.statistics()[0].tensor.item<float>() == 0);
}
