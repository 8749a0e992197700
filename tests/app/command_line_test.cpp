// Help, mistakes on the command line, exit codes, output that cannot be written.
#include <doctest/doctest.h>

#include <set>
#include <sstream>

#include "command.hpp"

using namespace sluice::testing;
namespace fs = std::filesystem;

namespace {

// The verbs that a help page lists.
std::vector<std::string> verbs_of(const std::string& help) {
  std::vector<std::string> out;
  std::istringstream lines(help.substr(std::min(help.size(), help.find("Subcommands:"))));
  std::string line;
  std::getline(lines, line);
  while (std::getline(lines, line) && line.starts_with("  "))
    if (line[2] != ' ') out.push_back(line.substr(2, line.find(' ', 2) - 2));
  return out;
}

void check_help(const Desk& sluice, std::vector<std::string> verb) {
  auto arguments = verb;
  arguments.push_back("--help");
  const Finished run = sluice(arguments);
  std::string command = "sluice";
  for (const auto& word : verb) command += " " + word;
  INFO(command);
  CHECK(run.code == 0);
  CHECK(run.err.empty());
  CHECK(has(run.out, "Example"));
  CHECK(has(run.out, command));
  for (const auto& below : verbs_of(run.out)) {
    auto next = verb;
    next.push_back(below);
    check_help(sluice, next);
  }
}

}  // namespace

// Catches a verb without an example, one whose example names another verb, help on standard error or with an exit code.
TEST_CASE("every verb has help with an example") {
  const Desk sluice;
  const Finished run = sluice({"--help"});
  const auto verbs = verbs_of(run.out);
  for (const auto* verb : {"train", "eval", "predict", "check", "inspect", "plugins", "new", "data", "doctor"}) {
    INFO(verb);
    CHECK(std::find(verbs.begin(), verbs.end(), verb) != verbs.end());
  }
  check_help(sluice, {});
}

// Catches a mistake that is taken silently, that has no way out in its message, or that looks like success to a script.
TEST_CASE("mistakes on the command line: exit code 2, on standard error, with what to do") {
  const Desk sluice;
  sluice.write("a.toml", data_pipeline);
  const std::vector<std::pair<std::vector<std::string>, std::string>> mistakes{
      {{}, "--help"},
      {{"trian", "a.toml"}, "did you mean train?"},
      {{"new", "pipline"}, "did you mean pipeline?"},
      {{"xyzzy"}, "lists all"},
      {{"--frobnicate"}, "--help"},
      {{"train"}, "sluice train --help"},
      {{"train", ""}, "an empty name"},
      {{"predict", "a.toml", "--video", ""}, "an empty name"},
      {{"plugins", "--path", ""}, "an empty name"},
      {{"train", "a.toml", "--frobnicate"}, "--frobnicate"},
      {{"check", "missing.toml"}, "missing.toml"},
      {{"inspect", "a.toml", "batch.sise=3"}, "size"},
      {{"inspect", "a.toml", "batch.size"}, "batch.size"},
      {{"inspect", "a.toml", "batch.size=many"}, "batch.size"},
      {{"inspect", "augment.hflip", "p=0.5"}, "pipeline"},
      {{"inspect"}, "sluice plugins"},
      {{"data"}, "sluice data --help"},
      {{"data", "show", "a.toml"}, "--out"},
      {{"data", "show", "a.toml", "--out", "sheet.jpg"}, "sheet.png"},
      {{"data", "show", "a.toml", "--out", "sheet.png", "--sample", "20"}, "20 samples"},
      {{"data", "show", "a.toml", "--out", "sheet.png", "--sample", "-1"}, "--sample"},
      {{"data", "bench", "a.toml", "--epochs", "0"}, "--epochs"},
      {{"data", "bench", "a.toml", "--epochs", "1e99"}, "--epochs"},
      {{"data", "bench", "a.toml", "--split", "test"}, "--split"},
      {{"new", "stage", "Not A Name"}, "augment.blur"},
      {{"new", "stage", "augment.hflip"}, "choose another"},
      {{"new", "stage", "../escape"}, "augment.blur"},
      {{"new", "pipeline", "--data", ".", "--split", "nan"}, "--split"},
      {{"new", "pipeline", "--data", ".", "--workers", "1000000000000000000000"}, "--workers"},
      {{"new", "pipeline", "--data", ".", "--out", "a.txt"}, ".toml"},
      {{"plugins", "--path", "nowhere"}, "nowhere"}};
  for (const auto& [arguments, expected] : mistakes) {
    std::string command;
    for (const auto& word : arguments) command += word + " ";
    const Finished run = sluice(arguments);
    INFO(command << "\n" << run.out << run.err);
    CHECK(run.code == 2);
    CHECK(has(run.err, expected));
    CHECK(run.out.empty());
    CHECK(!has(run.err, "fault of sluice"));
  }
}

// Catches exit codes that a script could not tell apart: DESIGN section 7.
TEST_CASE("exit codes 2, 3, 4, 5 by what went wrong") {
  const Desk sluice;
  sluice.write("wrong.toml", "[batch]\nsize = 0\n");
  const Finished configuration = sluice({"check", "wrong.toml"});
  CHECK(configuration.code == 2);
  CHECK(has(configuration.err, "wrong.toml:2:"));

  fs::create_directory(sluice.folder() / "open");
  fs::copy(fs::path(SLUICE_BINARY_DIR) / "tests" / "plugins" / "fixture.synthetic.so", sluice.folder() / "open");
  fs::permissions(sluice.folder() / "open" / "fixture.synthetic.so", fs::perms::all);
  const Finished plugin = sluice({"inspect", "source.synthetic", "--path", "open"});
  INFO(plugin.err);
  CHECK(plugin.code == 3);
  CHECK(has(plugin.err, "chmod"));

  fs::create_directories(sluice.folder() / "videos" / "cat");
  sluice.write("videos/cat/empty.mp4", "");
  const Finished data = sluice({"new", "pipeline", "--data", "videos"});
  CHECK(data.code == 4);
  CHECK(has(data.err, "empty.mp4"));
  CHECK(!fs::exists(sluice.folder() / "videos.toml"));

  sluice.write("a.toml", data_pipeline);
  CHECK(sluice({"data", "show", "a.toml", "--out", "no/such/folder/sheet.png"}).code == 5);
  CHECK(sluice({"new", "pipeline", "--data", "no/such/folder"}).code == 5);
}

// Catches output that is lost without a word: a full disk, a closed standard output, and a file of ours that gets its number.
TEST_CASE("standard output full or closed: exit code 5") {
  const Desk sluice;
  sluice.write("a.toml", data_pipeline);
  for (const auto* command : {"--help", "plugins", "plugins --json", "inspect augment.hflip", "inspect --keys", "inspect a.toml", "data bench a.toml --json"}) {
    INFO(command);
    CHECK(sluice.shell(std::string(command) + " >/dev/full 2>err.txt") == 5);
    CHECK(has(sluice.read("err.txt"), "error: "));
    CHECK(sluice.shell(std::string(command) + " >&- 2>err.txt") == 5);
  }
  CHECK(sluice.shell("data show a.toml --out sheet.png >&- 2>/dev/null") == 5);
  CHECK(sluice.read("sheet.png").starts_with("\x89PNG"));
  CHECK(sluice.shell("plugins <&- >out.txt 2>&-") == 0);
  CHECK(sluice.shell("plugins 2>/dev/null | true") == 0);
}
