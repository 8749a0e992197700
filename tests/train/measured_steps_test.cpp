// What the parent makes of a child that measures: /bin/sh stands for it.
#include "framework/train/measured_steps.hpp"

#include <doctest/doctest.h>

using namespace sluice;

namespace {

MeasuredSteps measured_by(const std::string& script, double longest = 60) { return measure_in_child({.program = "/bin/sh", .arguments = {"-c", script}, .longest = longest}); }

}  // namespace

// Catches a child that is waited for without end, and a reason that says nothing.
TEST_CASE("a child that says nothing, dies or is wrong is a reason, not an exception") {
  CHECK(measured_by("exec sleep 100", 0.2).why == "no result after 200 ms, so it was ended");
  CHECK(measured_by("kill -KILL $$").why == "killed (SIGKILL), as a system does that is short of memory");
  CHECK(measured_by("kill -SEGV $$").why.starts_with("ended by signal 11"));
  CHECK(measured_by("exit 3").why == "ended with code 3 and no result");
  CHECK(measured_by("echo 'error: a.toml:3:1: no key is called so' >&2; echo '  hint: another' >&2; exit 2").why == "a.toml:3:1: no key is called so");
  CHECK(measured_by("echo '{\"fits\": true}'").why.starts_with("its result cannot be read"));
  CHECK_FALSE(measured_by("exit 3").fits);
}

// Catches numbers that are mixed up on their way, and words before the result.
TEST_CASE("a result is the line that is JSON") {
  const auto found = measured_by(R"(echo something; echo '{"fits": true, "peak_resident": 100, "seconds": 0.5, "steps": 3, "waited": 0.2, "smallest": 90, "again": {"stem": 0.1}, "why": ""}')");
  CHECK(found.fits);
  CHECK(found.peak_resident == 100);
  CHECK(found.seconds == 0.5);
  CHECK(found.steps == 3);
  CHECK(found.smallest == 90);
  CHECK(found.again.at("stem") == 0.1);
  CHECK(found.disturbed());
}
