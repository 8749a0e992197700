// sluice doctor: what it says of the machine against the system's own words, and of a pipeline against what training then does.
#include <doctest/doctest.h>

#include <csignal>
#include <cstdlib>
#include <sstream>

#include <nlohmann/json.hpp>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "command.hpp"
#include "tests/support/memory_cgroup.hpp"

using namespace sluice::testing;
namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

constexpr double MiB = 1 << 20;

const std::string training_pipeline = data_pipeline + R"([run]
name = "p"
steps = 2
device = "cpu"
[model]
plugin = "model.recognizer"
backbone = { plugin = "backbone.r3d", depth = 10, width = 8 }
head = { plugin = "head.linear" }
[loss]
plugin = "loss.cross_entropy"
[optimizer]
plugin = "optimizer.adamw"
lr = 0.003
)";
const std::string enough = "budget.host_ram=1GiB";

Json parsed(const Finished& run) {
  INFO(run.out << run.err);
  REQUIRE(run.signal == 0);
  return Json::parse(run.out);
}

// The first finding of a topic.
Json finding(const Json& report, const std::string& topic) {
  for (const auto& item : report["findings"])
    if (item["topic"] == topic) return item;
  return Json{{"status", "none"}, {"text", ""}, {"next", ""}};
}

double meminfo(const std::string& key) {
  std::istringstream lines(text_of_file("/proc/meminfo"));
  for (std::string word; lines >> word;)
    if (word == key + ":") {
      double value = 0;
      lines >> value;
      return value * 1024;
    }
  return -1;
}

struct Variable {
  Variable(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~Variable() { unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
};

}  // namespace

// Catches a total that is the cgroup's, kB taken for bytes, a LibTorch that is named and not loaded.
TEST_CASE("without a file: memory, cores and disk are what the system says") {
  unsetenv("OMP_NUM_THREADS");  // nproc follows it
  const Desk sluice;
  const Finished run = sluice({"doctor", "--json"});
  CHECK(run.code == 0);
  const Json report = parsed(run);
  const Json machine = report["machine"];
  CHECK(machine["memory"]["total"] == meminfo("MemTotal"));
  CHECK(machine["memory"]["available"].get<double>() == doctest::Approx(meminfo("MemAvailable")).epsilon(0.2));
  CHECK(machine["memory"]["swap_total"] == meminfo("SwapTotal"));
  REQUIRE(std::system(("nproc > '" + (sluice.folder() / "nproc.txt").string() + "'").c_str()) == 0);
  CHECK(machine["processor"]["cores"] == std::stoi(sluice.read("nproc.txt")));
  CHECK(machine["disk"]["runs"]["folder"] == sluice.folder().string());
  CHECK(machine["disk"]["runs"]["free"].get<double>() == doctest::Approx(static_cast<double>(fs::space(sluice.folder()).available)).epsilon(0.05));
  CHECK(fs::exists(machine["libtorch"]["file"].get<std::string>()));
  CHECK(machine["libtorch"]["version"].get<std::string>().starts_with("2."));
  CHECK(machine["processor"]["bf16"] == has(text_of_file("/proc/cpuinfo"), "_bf16"));
  for (const auto& item : report["findings"])
    if (item["status"] != "ok") CHECK_FALSE(item["next"].get<std::string>().empty());

  const Finished text = sluice({"doctor"});
  CHECK(text.code == 0);
  for (const auto* topic : {"processor", "memory", "swap", "others", "runs", "cache", "libtorch", "device"}) CHECK(has(text.out, std::string(" ") + topic + " "));
}

// Catches cores counted from the machine instead of from what this process may use.
TEST_CASE("bound to one core it says one core") {
  const Desk sluice;
  REQUIRE(std::system(("cd '" + sluice.folder().string() + "' && taskset -c 0 '" + SLUICE_BINARY_DIR + "/bin/sluice' doctor --json > one.json").c_str()) == 0);
  CHECK(Json::parse(sluice.read("one.json"))["machine"]["processor"]["cores"] == 1);
}

// Catches: the limit of another level, a free that is the machine's, a warning that would end a process.
TEST_CASE("in a memory cgroup: its limit, what it holds, and what is left in it") {
  const Desk sluice;
  const std::uint64_t limit = 400 << 20;
  const MemoryCgroup cgroup(limit);
  const Json report = parsed(run_sluice({"doctor", "--json"}, sluice.folder(), 60, cgroup.procs()));
  CHECK(report["machine"]["memory"]["cgroup"]["limit"] == limit);
  CHECK(report["machine"]["memory"]["free"].get<std::uint64_t>() <= limit);
  CHECK(finding(report, "memory")["status"] == "warning");
  CHECK(has(finding(report, "memory")["next"], "raise the cgroup's limit"));
}

// Catches a list of processes in which the one that holds the memory is missing. It is named, and nobody is told to kill it by force.
TEST_CASE("who holds the memory is named with its number") {
  int ready[2];
  REQUIRE(pipe(ready) == 0);
  const pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_NAME, "memory hog");
    std::vector<char> block(std::size_t{3} << 30, 1);
    if (write(ready[1], block.data(), 1) != 1) _exit(1);
    for (;;) pause();
  }
  char byte = 0;
  REQUIRE(read(ready[0], &byte, 1) == 1);
  const Desk sluice;
  const Finished run = sluice({"doctor", "--json"});
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  const Json report = parsed(run);
  CHECK(has(finding(report, "others")["text"], std::to_string(child) + " memory hog 3.0"));
  CHECK_FALSE(has(run.out, "kill"));
}

// Catches a variable that is passed over, and one that is called harmful although it is not.
TEST_CASE("variables that stand in the way are warnings, others are shown") {
  const Desk sluice;
  const Variable spin("OMP_WAIT_POLICY", "ACTIVE"), cards("CUDA_VISIBLE_DEVICES", "0"), conf("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True");
  const Finished run = sluice({"doctor"});
  CHECK(run.code == 0);
  CHECK(has(run.out, "warning  environment    OMP_WAIT_POLICY = 'ACTIVE'"));
  CHECK(has(run.out, "ok       environment    CUDA_VISIBLE_DEVICES = '0'"));
  CHECK(has(run.out, "ok       environment    PYTORCH_CUDA_ALLOC_CONF"));
}

// Catches a structure of NVML that is laid out wrongly, a card that the CPU build hides without a word.
TEST_CASE("a card that the driver shows and LibTorch's CPU build cannot use") {
  const Desk sluice;
  const Variable path("LD_LIBRARY_PATH", SLUICE_BINARY_DIR "/tests/fake_nvml");
  const Json report = parsed(sluice({"doctor", "--json"}));
  const Json nvidia = report["machine"]["nvidia"];
  CHECK(nvidia["driver"] == "550.54.15");
  REQUIRE(nvidia["cards"].size() == 1);
  CHECK(nvidia["cards"][0]["name"] == "NVIDIA A30");
  CHECK(nvidia["cards"][0]["capability"] == "8.0");
  CHECK(nvidia["cards"][0]["total"] == 24ull << 30);
  CHECK(nvidia["cards"][0]["free"] == 22ull << 30);
  CHECK(nvidia["cards"][0]["users"][0]["pid"] == 4242);
  CHECK(nvidia["cards"][0]["users"][0]["bytes"] == 2ull << 30);
  if (report["machine"]["libtorch"]["cuda"] == false) {
    const Finished text = sluice({"doctor"});
    CHECK(has(text.out, "warning  device         no CUDA device: LibTorch is the CPU build, and the driver 550.54.15 shows 1 card, e.g. NVIDIA A30"));
    CHECK(has(text.out, "./sluicew --cuda"));
  }
}

// Catches: a pre-flight that says yes to what does not train, a smallest budget or size of a checkpoint that is not the run's.
TEST_CASE("a pipeline that would run: exit code 0, and training agrees") {
  const Desk sluice;
  sluice.write("p.toml", training_pipeline);
  const Finished run = sluice({"doctor", "p.toml", enough, "--json"});
  CHECK(run.code == 0);
  const Json report = parsed(run);
  for (const auto* topic : {"configuration", "data", "plan", "memory now", "checkpoints", "threads"}) {
    INFO(topic << ": " << finding(report, topic).dump());
    CHECK(finding(report, topic)["status"] == "ok");
  }
  CHECK(report["pipeline"]["train"] == 20);
  CHECK(report["pipeline"]["val"] == 6);
  CHECK_FALSE(fs::exists(sluice.folder() / "runs"));  // it looks, and leaves nothing

  const Json check = parsed(sluice({"check", "p.toml", enough, "--json"}));
  CHECK(report["pipeline"]["smallest_host_ram"].get<double>() == doctest::Approx(check["smallest_host_ram"].get<double>()).epsilon(0.1));
  const Finished trained = sluice({"train", "p.toml", enough});
  INFO(trained.err);
  REQUIRE(trained.code == 0);
  double bytes = 0;
  std::istringstream rows(sluice.read("runs/p/metrics.jsonl"));
  for (std::string line; std::getline(rows, line);)
    if (const Json row = Json::parse(line); row["kind"] == "checkpoint") bytes = row["bytes"];
  CHECK(bytes >= report["pipeline"]["checkpoint"].get<double>());
  CHECK(bytes < report["pipeline"]["checkpoint"].get<double>() + MiB);
}

// Each is what somebody does wrong. Catches a doctor that ends with 0 for it, or with another code than the run itself.
TEST_CASE("what would not run: the topic, the next thing to do, and the code that the run would end with") {
  const Desk sluice;
  sluice.write("p.toml", training_pipeline);
  struct Planted {
    std::vector<std::string> overrides;
    int code;
    std::string topic, text, next;
  };
  for (const auto& planted : {Planted{{enough, "batch.sise=8"}, 2, "configuration", "batch.sise=8", "size"},
                              Planted{{"budget.host_ram=64MiB"}, 2, "plan", "the budget is too small", "set host_ram"},
                              Planted{{enough, "data.train=0"}, 4, "data", "nothing to train on", ""},
                              Planted{{enough, "run.device=cuda:0"}, 2, "plan", "there is no GPU", "auto"},
                              Planted{{enough, "checkpoint.keep=10000", "model.backbone.width=64"}, 5, "checkpoints", "a checkpoint has", "checkpoint.keep"}}) {
    std::vector<std::string> arguments{"doctor", "p.toml", "--json"};
    arguments.insert(arguments.end(), planted.overrides.begin(), planted.overrides.end());
    const Finished run = sluice(arguments);
    INFO(planted.overrides.back() << "\n" << run.out << run.err);
    CHECK(run.code == planted.code);
    const Json report = Json::parse(run.out);
    const Json found = finding(report, planted.topic);
    CHECK(report["ok"] == false);
    CHECK(found["status"] == "problem");
    CHECK(has(found["text"], planted.text));
    CHECK(has(found["next"], planted.next));
    if (planted.topic == "plan") CHECK(finding(report, "data")["status"] == "ok");  // what is known is said all the same
  }
  const Finished threads = sluice({"doctor", "p.toml", enough, "budget.compute_threads=16", "budget.workers=1"});
  CHECK(threads.code == 0);
  CHECK(has(threads.out, "warning  threads"));
}

// Catches a plan for memory that the machine does not have, which the kernel would end: in the run, or already in this look.
TEST_CASE("a budget above what the cgroup has free is said before the run, and not a kill in it") {
  const Desk sluice;
  sluice.write("p.toml", training_pipeline);
  const std::uint64_t smallest = parsed(sluice({"doctor", "p.toml", enough, "--json"}))["pipeline"]["smallest_host_ram"];
  {
    const MemoryCgroup cgroup(smallest * 3 / 2);
    const Finished run = run_sluice({"doctor", "p.toml", "budget.host_ram=8GiB", "--json"}, sluice.folder(), 60, cgroup.procs());
    const Json report = parsed(run);
    INFO(run.out);
    CHECK(run.code == 0);
    CHECK(finding(report, "memory now")["status"] == "warning");
    CHECK(has(finding(report, "memory now")["next"], "raise the cgroup's limit"));
  }
  // A batch of large clips takes more than is free, and fits in pieces.
  const std::vector<std::string> large{"doctor", "p.toml", "budget.host_ram=8GiB", "stage.synthetic.clip.frames=32", "stage.synthetic.clip.size=[64, 64]", "model.batch_norm=frozen", "data.train=64", "batch.size=32", "--json"};
  const MemoryCgroup cgroup(smallest + (96 << 20));
  const Finished run = run_sluice(large, sluice.folder(), 60, cgroup.procs());
  const Json report = parsed(run);
  INFO(run.out);
  CHECK(run.code == 2);
  CHECK(finding(report, "memory now")["status"] == "problem");
}

// Catches a broken video that is only met in the middle of the run.
TEST_CASE("entries that cannot be used are named; too many of them are a problem") {
  const Desk sluice;
  fs::create_directories(sluice.folder() / "videos");
  std::string list;
  for (const std::string name : {"a1", "a2", "b1", "b2"}) {
    REQUIRE(std::system(("ffmpeg -v error -f lavfi -i testsrc2=size=64x64:rate=15:duration=1 -c:v libx264 -preset ultrafast -pix_fmt yuv420p '" + (sluice.folder() / "videos" / name).string() + ".mp4' </dev/null").c_str()) == 0);
    list += "videos/" + name + ".mp4," + name[0] + "\n";
  }
  sluice.write("videos/broken.mp4", "no video");
  sluice.write("list.csv", "path,label\n" + list + "videos/broken.mp4,b\n");
  std::string text = training_pipeline;
  const auto from = text.find("plugin = \"source.synthetic\""), to = text.find("[batch]");
  text.replace(from, to - from, "plugin = \"source.video_list\"\ntrain = \"list.csv\"\n[[stage]]\nplugin = \"frames.dense\"\nframes = 4\n[[stage]]\nplugin = \"decode.ffmpeg\"\n");
  sluice.write("p.toml", text);
  const Finished some = sluice({"doctor", "p.toml", enough, "batch.size=2", "run.max_failures=1"});
  INFO(some.out << some.err);
  CHECK(some.code == 0);
  CHECK(has(some.out, "warning  data"));
  CHECK(has(some.out, "broken.mp4"));
  const Finished many = sluice({"doctor", "p.toml", enough, "batch.size=2", "run.max_failures=0"});
  CHECK(many.code == 4);
  CHECK(has(many.out, "problem  data"));
}
