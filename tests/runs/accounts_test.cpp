// The accounts that a plan foresees, and those that a run reports, beside the resident peak of its process.
#include <doctest/doctest.h>

#include <cmath>
#include <map>

#include "tests/runs/own_cache.hpp"
#include "tests/runs/synthetic_run.hpp"

using namespace sluice::testing;

namespace {

using Accounts = std::map<std::string, double>;

// Half of it is weights and their like, half activations and libraries, so that no account of those hides behind another.
const std::string networks = R"([run]
name = "accounts"
seed = 7
steps = 2
device = "cpu"
[plugins]
path = ["@BINARY@/tests/plugins"]
[budget]
host_ram = "4GiB"
workers = 1
compute_threads = 2
[data]
plugin = "source.synthetic"
train = 8
val = 0
[[stage]]
plugin = "synthetic.clip"
frames = 8
size = [48, 48]
[batch]
size = 4
[model]
plugin = "model.recognizer"
batch_norm = "frozen"
backbone = { plugin = "backbone.r3d", depth = 18, width = 64 }
head = { plugin = "head.linear" }
[loss]
plugin = "loss.cross_entropy"
[optimizer]
plugin = "optimizer.sgd"
lr = 0.0001
momentum = 0.9
)";

double sum_of(const Accounts& accounts, const std::string& without = {}) {
  double sum = 0;
  for (const auto& [name, bytes] : accounts)
    if (name != without) sum += bytes;
  return sum;
}

bool adds_up(double sum, double peak, double within) { return std::abs(sum / peak - 1) <= within; }

// What a plan foresees that a process holds: not its reserve, nor what nobody has a use for.
Accounts foreseen_by(const nlohmann::json& plan) {
  Accounts accounts = plan["accounts"];
  accounts.erase("reserve");
  accounts.erase("unused");
  return accounts;
}

Accounts end_of(const fs::path& run) {
  std::ifstream file(run / "metrics.jsonl");
  Accounts accounts;
  for (std::string line; std::getline(file, line);)
    if (const auto row = nlohmann::json::parse(line); row["kind"] == "end") accounts = row["memory"];
  return accounts;
}

}  // namespace

// Mistake caught: an account that nobody counts, a prediction that leaves out what a setting needs (what is computed twice, the
// gradients beside each group of batch norm), base or runtime guessed too small. Between steps `runtime` is what the other accounts leave of the resident memory, so a
// sum with it proves little: here base and runtime are the plan's. Planted defect: each account of the
// network, the base and the runtime, left out, is seen by both sums.
TEST_CASE("what is foreseen is never below the resident peak and little above it; what is reported adds up to it") {
  const ScratchFolder folder;
  const auto file = write_pipeline(folder.path(), networks);
  for (const std::vector<std::string>& keys : {std::vector<std::string>{"plan.checkpoint=false"}, {"model.batch_norm={ group = 2 }", "plan.checkpoint=true"}}) {
    CAPTURE(keys);
    const auto with = [&](std::vector<std::string> words) {
      words.insert(words.end(), keys.begin(), keys.end());
      return words;
    };
    const Finished planned = run_sluice(with({"plan", file, "--json"}), folder.path());
    INFO(planned.err);
    REQUIRE(planned.code == 0);
    const Accounts foreseen = foreseen_by(nlohmann::json::parse(planned.out));
    fs::remove_all(folder.path() / "run");
    const Finished run = run_sluice(with({"train", file, "run.dir=run"}), folder.path());
    INFO(run.err);
    REQUIRE(run.code == 0);
    Accounts reported = end_of(folder.path() / "run");
    REQUIRE(reported.contains("resident"));
    const double peak = reported.extract("resident").mapped();
    CHECK(std::abs(peak - static_cast<double>(run.peak_resident)) <= 8 << 20);  // the end of the process reads code that was given back
    CHECK(sum_of(foreseen) >= peak);
    CHECK(sum_of(foreseen) <= 1.2 * peak);  // M5 asks for 5 % at the median of networks of a gigabyte: reuse and what passes leave behind weigh less there
    CHECK(adds_up(sum_of(reported), peak, 0.03));
    Accounts checked = reported;
    for (const char* account : {"base", "runtime"}) checked[account] = foreseen.at(account);
    CHECK(sum_of(checked) >= 0.995 * peak);
    CHECK(sum_of(checked) <= 1.1 * peak);
    for (const char* account : {"base", "runtime", "parameters", "gradients", "optimizer", "activations"}) {
      CAPTURE(account);
      CHECK_FALSE(adds_up(sum_of(reported, account), peak, 0.03));
      CHECK_FALSE(sum_of(checked, account) >= 0.995 * peak);
    }
    MESSAGE(keys.front() << ": peak " << static_cast<int>(peak / (1 << 20)) << " MiB, foreseen " << sum_of(foreseen) / peak << " of it, reported " << sum_of(reported) / peak
                             << ", with the plan's base and runtime " << sum_of(checked) / peak << "; " << planned.seconds << " s and " << run.seconds << " s");
  }
}

// Mistake caught: a least that counts what the passes of other plans left in the libraries, which a later start does not have; one that depends on which
// verb asked first, or on passes that failed in too small a budget (2.2 MiB of unwinding); a line said twice by a process that began afresh. Planted defect: a process
// that is told it did so often enough measures and goes on, and its least is seen to be more.
TEST_CASE("what measuring leaves in the libraries is no part of the least, whoever asks, and what was said before is not said again") {
  const auto least_of = [](const char* verb, const char* name) {
    const ScratchFolder folder;
    const OwnCache cache(folder.path());
    const auto file = write_pipeline(folder.path(), networks);
    const Finished asked = run_sluice({verb, file, "--json"}, folder.path());
    INFO(asked.err);
    REQUIRE(asked.code == 0);
    auto json = nlohmann::json::parse(asked.out);
    if (std::string(verb) == "doctor") json = json["pipeline"];
    return json[name].get<double>() / (1 << 20);
  };
  const double least = least_of("plan", "smallest_host_ram");
  CHECK(std::abs(least_of("doctor", "smallest_host_ram") - least) <= 1.5);
  {
    const ScratchFolder folder;
    const OwnCache cache(folder.path());
    const Finished refused = run_sluice({"check", write_pipeline(folder.path(), networks), "budget.host_ram=64MiB"}, folder.path());
    CHECK(refused.code == 2);
    const auto at = refused.err.find("(at least ");
    REQUIRE(at != std::string::npos);
    CHECK(std::abs(std::stod(refused.err.substr(at + 10)) / (1 << 20) - least) <= 1.5);
  }
  setenv("SLUICE_BEGAN_AFRESH", "3", 1);
  const double beside_others = least_of("plan", "smallest_host_ram");
  unsetenv("SLUICE_BEGAN_AFRESH");
  CHECK(beside_others >= least + 12);

  const ScratchFolder folder;
  const OwnCache cache(folder.path());
  const auto file = write_pipeline(folder.path(), networks);
  const Finished first = run_sluice({"train", file, "run.dir=run", "run.precision=bf16", "budget.host_ram=64TiB"}, folder.path());
  CHECK(first.code == 0);
  const auto count = [&](const std::string& text, const std::string& words) {
    int found = 0;
    for (auto at = text.find(words); at != std::string::npos; at = text.find(words, at + 1)) ++found;
    return found;
  };
  CHECK(count(first.err, "the system may end it without a word") == 1);
  CHECK(count(first.out, "measuring what the network needs 0 %") == 1);

  fs::remove_all(folder.path() / "run");
  const Finished smallest = run_sluice({"train", file, "run.dir=run", "budget.host_ram=" + std::to_string(static_cast<std::uint64_t>((least + 2) * (1 << 20)))}, folder.path());
  INFO(smallest.err);
  CHECK(smallest.code == 0);
  const double peak = static_cast<double>(smallest.peak_resident) / (1 << 20);
  CHECK(peak <= least + 2);
  CHECK(peak >= 0.93 * least);  // a reserve of 14 MiB, and margins
  MESSAGE("the least: " << least << " MiB, resident at the peak in it " << peak << "; measured beside other plans " << beside_others);
}
