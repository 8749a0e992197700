// optimizer.lr_base_batch: the learning rate follows batch.size, in what is shown, in every step and in what a resume compares.
#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "tests/runs/synthetic_run.hpp"

using namespace sluice::testing;

namespace {

const std::vector<std::string> meant_for_twenty{"optimizer.lr=0.01", "optimizer.lr_base_batch=20", "run.steps=3"};

std::vector<std::string> with(std::vector<std::string> command, const std::vector<std::string>& more) {
  command.insert(command.end(), meant_for_twenty.begin(), meant_for_twenty.end());
  command.insert(command.end(), more.begin(), more.end());
  return command;
}

std::vector<double> rates_of(const fs::path& run) {
  std::vector<double> rates;
  for (const auto& text : learnt(run))
    if (const auto row = nlohmann::json::parse(text); row["kind"] == "step") rates.push_back(row["lr"]);
  return rates;
}

std::string without_schedule(std::string text) {
  const auto from = text.find("[schedule]"), to = text.find("[[metric]]");
  return text.erase(from, to - from);
}

}  // namespace

// The numbers of a user who went from 20 clips to 16, and had 14 and 12 to fall back on. Catches a scale that is shown and not used, one
// that is used twice, and a division of whole numbers.
TEST_CASE("0.01 at 20 is 0.008 at 16, 0.007 at 14, 0.006 at 12: shown at the start and used in every step") {
  const ScratchFolder folder;
  const auto file = write_pipeline(folder.path(), without_schedule(synthetic_pipeline));
  for (const auto& [batch, rate] : {std::pair<std::string, std::string>{"16", "0.008"}, {"14", "0.007"}, {"12", "0.006"}, {"20", "0.01"}}) {
    const Finished run = run_sluice(with({"train", file}, {"batch.size=" + batch, "run.name=b" + batch}), folder.path());
    INFO(run.err << run.out);
    REQUIRE(run.code == 0);
    const std::string shown = "lr 0.01 x " + batch + "/20 = ";
    const auto at = run.out.find(shown);
    REQUIRE(at != std::string::npos);
    CHECK(std::stod(run.out.substr(at + shown.size())) == doctest::Approx(std::stod(rate)).epsilon(1e-12));
    const auto rates = rates_of(folder.path() / "runs" / ("b" + batch));
    REQUIRE(rates.size() == 3);
    for (const double used : rates) CHECK(used == doctest::Approx(std::stod(rate)).epsilon(1e-12));
  }
}

// Catches a schedule that starts from the rate of the file, and weights that do not follow from the rate that is shown.
TEST_CASE("the scaled rate is the rate: with a schedule, the run is bit for bit the one whose lr was scaled by hand") {
  const ScratchFolder folder;
  const auto file = write_pipeline(folder.path(), synthetic_pipeline);
  const Finished scaled = run_sluice(with({"train", file}, {"batch.size=16", "run.name=scaled"}), folder.path());
  REQUIRE(scaled.code == 0);
  const Finished by_hand = run_sluice({"train", file, "optimizer.lr=0.008", "run.steps=3", "batch.size=16", "run.name=by_hand"}, folder.path());
  REQUIRE(by_hand.code == 0);
  CHECK(by_hand.out.find("lr 0.008 x") == std::string::npos);
  CHECK(rates_of(folder.path() / "runs/scaled") == rates_of(folder.path() / "runs/by_hand"));
  CHECK(last_weights(folder.path() / "runs/scaled") == last_weights(folder.path() / "runs/by_hand"));
}

// Catches a resume that goes on with another rate without a word.
TEST_CASE("a resume with another batch is refused, as for any key that changes the result") {
  const ScratchFolder folder;
  const auto file = write_pipeline(folder.path(), without_schedule(synthetic_pipeline));
  REQUIRE(run_sluice(with({"train", file}, {"batch.size=16"}), folder.path()).code == 0);
  for (const auto* changed : {"batch.size=12", "optimizer.lr_base_batch=16"}) {
    auto again = with({"train", file, "--resume"}, {"batch.size=16"});
    again.emplace_back(changed);
    const Finished run = run_sluice(again, folder.path());
    INFO(changed << "\n" << run.err);
    CHECK(run.code == 2);
    CHECK(run.err.find(std::string(changed).substr(0, std::string(changed).find('='))) != std::string::npos);
  }
}
