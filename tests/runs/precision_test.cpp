// Whole runs in bf16 and fp16.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <optional>

#include "tests/runs/own_cache.hpp"
#include "tests/runs/synthetic_run.hpp"

using namespace sluice::testing;

namespace {

// Two frames reach the first layers: the shapes at which processors with AVX512-BF16 have a wrong kernel.
const std::vector<std::string> short_clips{"stage.clip.frames=2", "model.backbone.width=16", "optimizer.plugin=optimizer.sgd", "optimizer.lr=0.1"};

struct Run {
  fs::path dir;
  Finished finished;
  nlohmann::json state;
  std::map<std::string, std::vector<float>> weights;
};

// Of the safetensors format: eight bytes of length, a JSON header, the bytes.
std::map<std::string, std::vector<float>> tensors_in(const fs::path& file) {
  const std::string text = text_of_file(file);
  std::uint64_t length = 0;
  REQUIRE(text.size() > 8);
  std::memcpy(&length, text.data(), 8);
  std::map<std::string, std::vector<float>> tensors;
  const auto header = nlohmann::json::parse(text.substr(8, length));
  for (const auto& [name, item] : header.items()) {
    if (name == "__metadata__" || item["dtype"] != "F32") continue;
    const std::size_t begin = item["data_offsets"][0], end = item["data_offsets"][1];
    std::vector<float> values((end - begin) / sizeof(float));
    std::memcpy(values.data(), text.data() + 8 + length + begin, end - begin);
    tensors[name] = std::move(values);
  }
  return tensors;
}

Run train(const ScratchFolder& folder, const std::string& name, std::vector<std::string> overrides) {
  Run run;
  run.dir = folder.path() / name;
  std::vector<std::string> arguments = {"train", write_pipeline(folder.path(), synthetic_pipeline), "run.dir=" + run.dir.string()};
  arguments.insert(arguments.end(), overrides.begin(), overrides.end());
  run.finished = run_sluice(arguments, folder.path());
  INFO(run.finished.err);
  REQUIRE(run.finished.code == 0);
  const auto step = newest_checkpoint(run.dir);
  run.state = nlohmann::json::parse(text_of_file(step / "state.json"));
  run.weights = tensors_in(step / "model.safetensors");
  return run;
}

// Relative, over all that was learnt: |(a - start) - (b - start)| / |b - start|.
double difference(const Run& a, const Run& b, const Run& start) {
  double error = 0, size = 0;
  for (const auto& [name, values] : b.weights) {
    const auto &from = start.weights.at(name), &ours = a.weights.at(name);
    if (name.find("running_") != std::string::npos) continue;
    for (std::size_t i = 0; i < values.size(); ++i) {
      error += std::pow(static_cast<double>(ours[i]) - values[i], 2);
      size += std::pow(static_cast<double>(values[i]) - from[i], 2);
    }
  }
  return std::sqrt(error / size);
}

bool processor_has(const std::vector<std::string>& any_of) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("flags") || line.starts_with("Features"))
      return std::any_of(any_of.begin(), any_of.end(), [&](const std::string& flag) { return (line + " ").find(" " + flag + " ") != std::string::npos; });
  return false;
}

std::vector<std::string> with(std::vector<std::string> all, const std::vector<std::string>& more) {
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

}  // namespace

// Mistake caught: a wrong kernel in use (on a processor with AVX512-BF16 the bf16 weight gradient over two frames is noise: then the
// runs are as far apart as two runs of noise), a loss scale that is not taken off, weights kept in 16 bits. The planted defect, another
// learning rate, shows that the comparison can fail.
TEST_CASE("after a step in bf16 or fp16 the weights are those of fp32 but for rounding") {
  const ScratchFolder folder;
  const auto run = [&](const std::string& name, const std::vector<std::string>& more) { return train(folder, name, with(with(short_clips, {"run.steps=1", "eval.every=0"}), more)); };
  const Run start = run("start", {"optimizer.lr=1e-30"}), exact = run("fp32", {}), bf16 = run("bf16", {"run.precision=bf16"}), fp16 = run("fp16", {"run.precision=fp16"});
  CHECK(exact.state["plan"]["precision"] == "fp32");
  CHECK(bf16.state["plan"]["precision"] == "bf16");
  const double of_bf16 = difference(bf16, exact, start), of_fp16 = difference(fp16, exact, start), planted = difference(run("planted", {"optimizer.lr=0.13"}), exact, start);
  MESSAGE("relative difference of what one step learnt: bf16 ", of_bf16, ", fp16 ", of_fp16, ", planted ", planted, "; routed: ", bf16.state["plan"]["routed"].dump());
  CHECK(of_bf16 > 0);
  CHECK(of_bf16 < 0.2);  // eight times the rounding of fp16, through ten layers of batch norm over eight clips
  CHECK(of_fp16 < 0.05);
  CHECK(planted > 0.25);
  // What the processor has no instructions for is said, in one line, and computed all the same.
  for (const auto& [reduced, any_of] : {std::pair(&bf16, std::vector<std::string>{"avx512_bf16", "amx_bf16", "bf16"}), std::pair(&fp16, std::vector<std::string>{"avx512_fp16", "amx_fp16", "asimdhp"})}) {
    const bool native = processor_has(any_of), said = (reduced->finished.out + reduced->finished.err).find("this processor has no instructions for") != std::string::npos;
    CHECK(said == !native);
  }
  CHECK((exact.finished.out + exact.finished.err).find("no instructions") == std::string::npos);
  // What is routed around is said, and only that.
  for (const auto& line : bf16.state["plan"]["routed"]) {
    const auto text = line.get<std::string>();
    CHECK(bf16.finished.out.find(text.substr(0, text.find(" is wrong"))) != std::string::npos);
  }
}

// Mistake caught: a wrong kernel that is used: one that no child looked at, a verdict that does not reach the dispatcher, one that another kernel's overwrites. Planted is a library before
// LibTorch with one wrong result. That the run would show it: with the verdicts of the right kernels still in the cache, the wrong one is used and seen.
TEST_CASE("a wrong kernel of the library is found, named and routed around, whichever of its results is wrong") {
  const ScratchFolder folder;
  const auto run = [&](const std::string& name, const std::vector<std::string>& more) { return train(folder, name, with(with(short_clips, {"run.steps=1", "eval.every=0"}), more)); };
  std::optional<OwnCache> cache(std::in_place, folder.path() / "right");
  const Run start = run("start", {"optimizer.lr=1e-30"}), exact = run("exact", {}), right = run("right", {"run.precision=bf16"});
  const double bound = 2 * difference(right, exact, start);
  const auto wrong_kernel = [&](const std::string& which, const std::string& name) {
    setenv("LD_PRELOAD", SLUICE_BINARY_DIR "/tests/preloaded/libwrong_kernel.so", 1);
    setenv("WRONG_KERNEL", which.c_str(), 1);
    Run of = run(name, {"run.precision=bf16"});
    unsetenv("LD_PRELOAD");
    unsetenv("WRONG_KERNEL");
    return of;
  };
  const auto names = [](const Run& of, const std::string& words) {
    const auto lines = of.state["plan"]["routed"].get<std::vector<std::string>>();
    return std::any_of(lines.begin(), lines.end(), [&](const std::string& line) { return line.find("16 to 16 channels") != std::string::npos && line.find(words) != std::string::npos; });
  };
  for (const auto& each : std::vector<std::pair<std::string, std::string>>{std::pair("output", "its output is wrong"), std::pair("input", "its input gradient is wrong"), std::pair("weight", "its weight gradient is wrong")}) {
    const auto& [which, words] = each;
    CAPTURE(which);
    cache.emplace(folder.path() / "right");
    const double trusted = difference(wrong_kernel(which, "trusted " + which), exact, start);
    cache.emplace(folder.path() / which);
    const Run found = wrong_kernel(which, which);
    const double routed = difference(found, exact, start);
    MESSAGE(which, " wrong: ", routed, " from fp32 where it is routed around, ", trusted, " where it is trusted; bf16 itself ", bound / 2, "; ", found.state["plan"]["routed"].dump());
    CHECK(names(found, words));
    CHECK(routed <= bound);
    if (!names(right, words)) CHECK(trusted > bound);  // with AVX512-BF16 the weight gradient is wrong without ours
  }
}

// Mistake caught: kernels that a tight budget leaves unchecked, computed in fp32 there and in bf16 elsewhere, so that host_ram and the cache decide what is
// learnt and a killed run cannot go on; a number that is named and does not work.
TEST_CASE("what is learnt in bf16 does not follow from the budget, and a first start without room for the check says how much is enough") {
  const ScratchFolder folder;
  const auto file = write_pipeline(folder.path(), synthetic_pipeline);
  const auto run = [&](const char* verb, std::vector<std::string> words) {
    for (const char* word : {"run.precision=bf16", "run.epochs=1"}) words.emplace_back(word);
    words.insert(words.begin(), {verb, file});
    return run_sluice(words, folder.path());
  };
  const auto learnt_within = [&](const std::string& host_ram) {
    fs::remove_all(folder.path() / "run");
    const Finished trained = run("train", {"run.dir=run", "budget.host_ram=" + host_ram});
    INFO(trained.err);
    REQUIRE(trained.code == 0);
    return last_weights(folder.path() / "run");
  };
  const auto least_that_is_named = [&] { return std::to_string(nlohmann::json::parse(run("plan", {"--json", "budget.host_ram=1GiB"}).out)["smallest_host_ram"].get<std::uint64_t>()); };
  std::string roomy, least;
  {
    const OwnCache cache(folder.path() / "one");
    roomy = learnt_within("1GiB");
    least = least_that_is_named();
    CHECK(learnt_within(least) == roomy);
  }
  std::string enough;
  {
    const OwnCache cache(folder.path() / "two");
    const Finished refused = run("train", {"run.dir=run", "budget.host_ram=" + least});
    INFO(refused.err);
    CHECK(refused.code == 2);
    CHECK(refused.err.find("the check of the network's kernels") != std::string::npos);
    const auto at = refused.err.find("(at least ");
    REQUIRE(at != std::string::npos);
    enough = std::to_string(std::stoull(refused.err.substr(at + 10)));
  }
  const OwnCache cache(folder.path() / "three");
  CHECK(learnt_within(enough) == roomy);
  CHECK(learnt_within(least_that_is_named()) == roomy);
}

// Mistakes caught: a kernel that crashes taking the training with it; a loss scale that starts anew (then the first batches after the
// kill are skipped, and other steps are made): with gradients ten million times too steep it has fallen by then, which the rows show.
TEST_CASE("a run in bf16 or fp16 resumed is as one that was never interrupted; another precision is refused") {
  const ScratchFolder folder;
  for (const std::string precision : {"bf16", "fp16"}) {
    std::vector<std::string> keys{"run.precision=" + precision, "run.epochs=2"};
    std::string text = synthetic_pipeline;
    const std::string network = "{ plugin = \"backbone.r3d\", depth = 10, width = 8 }";
    if (precision == "fp16") text.replace(text.find(network), network.size(), "{ plugin = \"backbone.mistaken\", steep = 1e7 }");
    const auto file = write_pipeline(folder.path(), text, precision + ".toml");
    const fs::path straight = folder.path() / ("straight " + precision), dir = folder.path() / ("killed " + precision);
    const Finished whole = run_sluice(with({"train", file, "run.dir=" + straight.string()}, keys), folder.path());
    INFO(whole.err);
    REQUIRE(whole.code == 0);
    const auto command = with({"train", file, "run.dir=" + dir.string(), "--resume"}, keys);
    SluiceProcess process(command, folder.path());
    while (process.look() && text_of_file(dir / "metrics.jsonl").find("\"step\":7,") == std::string::npos) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    process.kill(SIGKILL);
    process.wait(10);
    if (precision == "fp16") {
      const auto scale = nlohmann::json::parse(text_of_file(newest_checkpoint(dir) / "state.json"))["loss_scale"];
      CHECK(scale["scale"].get<double>() < 65536);
      CHECK(scale["clean"].get<int>() > 0);
      CHECK(text_of_file(straight / "metrics.jsonl").find("no update, and the loss is scaled by") != std::string::npos);
    }
    const auto other = run_sluice({"train", file, "run.dir=" + dir.string(), "--resume", "run.epochs=2"}, folder.path());
    CHECK(other.code == 2);
    CHECK(other.err.find("precision: " + precision + " before, fp32 now") != std::string::npos);
    const Finished finished = run_sluice(command, folder.path());
    INFO(finished.err);
    CHECK(finished.code == 0);
    CHECK(finished.out.find("going on from step") != std::string::npos);
    CHECK(last_weights(dir) == last_weights(straight));
    CHECK(learnt(dir) == learnt(straight));
  }
  const Finished unknown = run_sluice({"check", folder.path() / "bf16.toml", "run.precision=fp8"}, folder.path());
  CHECK(unknown.code == 2);
  CHECK(unknown.err.find("fp8") != std::string::npos);
  CHECK(unknown.err.find("bf16") != std::string::npos);
}

// Mistake caught: an evaluation or prediction in another precision than the training's.
TEST_CASE("eval computes in the precision of the pipeline") {
  const ScratchFolder folder;
  const Run run = train(folder, "run", {"run.precision=bf16", "run.epochs=1"});
  const auto file = write_pipeline(folder.path(), synthetic_pipeline);
  const auto loss_of = [&](const std::string& precision) {
    const auto eval = run_sluice({"eval", file, "run.dir=" + run.dir.string(), "run.precision=" + precision, "--json"}, folder.path());
    REQUIRE(eval.code == 0);
    return nlohmann::json::parse(eval.out)["metrics"]["loss"].get<double>();
  };
  const auto rows = learnt(run.dir);
  const double during = nlohmann::json::parse(rows.back())["numbers"]["loss"];
  CHECK(loss_of("bf16") == doctest::Approx(during).epsilon(1e-9));
  CHECK(loss_of("fp32") != doctest::Approx(during).epsilon(1e-9));
}
