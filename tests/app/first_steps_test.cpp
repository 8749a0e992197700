// What the program tells people to do next works: the pipeline it writes trains, the stage it writes builds and runs.
#include <doctest/doctest.h>

#include <sstream>

#include "command.hpp"

using namespace sluice::testing;
namespace fs = std::filesystem;

namespace {

// The commands that the program printed, indented by two, without "sluice" of this installation.
std::vector<std::string> next_commands(const std::string& out) {
  std::vector<std::string> commands;
  std::istringstream lines(out.substr(std::min(out.size(), out.find("Next"))));
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("  sluice ") || line.starts_with("  cmake ")) commands.push_back(line.substr(2));
  return commands;
}

int run(const Desk& desk, const std::string& command) {
  const std::string path = std::string("PATH='") + SLUICE_BINARY_DIR + "/bin':\"$PATH\" ";
  const int status = std::system(("cd '" + desk.folder().string() + "' && export " + path + "&& " + command + " >log.txt 2>&1 </dev/null").c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

// Catches a pipeline that only looks right: check refuses it, a batch cannot be stacked, a broken video ends the training.
TEST_CASE("new pipeline writes what check accepts and train trains") {
  const Desk sluice("Videos of mine");
  for (const std::string name : {"a/0", "a/1", "a/2", "b/0", "b/1", "b/2"}) {
    fs::create_directories((sluice.folder() / "my data" / name).parent_path());
    const std::string source = name[0] == 'a' ? "testsrc2=size=160x120:rate=15:duration=2" : "mandelbrot=size=120x160:rate=25,trim=duration=2";
    REQUIRE(std::system(("ffmpeg -v error -f lavfi -i '" + source + "' -c:v libx264 -preset ultrafast -pix_fmt yuv420p '" + (sluice.folder() / "my data" / name).string() + ".mp4' </dev/null").c_str()) == 0);
  }
  sluice.write("my data/b/broken.mp4", "no video");
  const Finished written = sluice({"new", "pipeline", "--data", "my data", "--split", "0.67"});
  INFO(written.out << written.err);
  REQUIRE(written.code == 0);
  const auto commands = next_commands(written.out);
  REQUIRE(commands.size() == 2);
  for (const auto& command : commands) {
    const int code = run(sluice, command + (command.starts_with("sluice train") ? " run.epochs=2" : ""));
    INFO(command << "\n" << sluice.read("log.txt"));
    CHECK(code == 0);
  }
  CHECK(fs::exists(sluice.folder() / "runs" / "my data" / "metrics.jsonl"));
}

// Catches a package that cannot be found from the build folder, a template that does not compile under the warnings of others, a
// stage that is not found by [plugins] path.
TEST_CASE("new stage writes what builds, and a pipeline runs it") {
  const Desk sluice;
  const Finished written = sluice({"new", "stage", "augment.invert"});
  REQUIRE(written.code == 0);
  const auto commands = next_commands(written.out);
  REQUIRE(commands.size() == 3);
  for (const auto& command : commands) {
    const int code = run(sluice, command);
    INFO(command << "\n" << sluice.read("log.txt"));
    REQUIRE(code == 0);
  }
  std::string pipeline = data_pipeline + "[[stage]]\nplugin = \"augment.invert\"\np = 1.0\n";
  const std::string path = "path = [";
  pipeline.insert(pipeline.find(path) + path.size(), "\"augment.invert/build\", ");
  sluice.write("p.toml", pipeline);
  const Finished bench = sluice({"data", "bench", "p.toml", "--json"});
  INFO(bench.err);
  CHECK(bench.code == 0);
  CHECK(has(bench.out, "\"clips\":20"));
}
