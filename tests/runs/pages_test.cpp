// The commands of docs/out-of-memory.md do what the page says, and its translation has the same ones.
#include <doctest/doctest.h>

#include <cctype>
#include <cstdlib>
#include <sstream>

#include <sys/wait.h>

#include "tests/runs/synthetic_run.hpp"

using namespace sluice::testing;

namespace {

struct Command {
  std::string text;  // without its comment
  int code = 0;      // "exit code 2" in the comment
};

// The lines of the blocks marked `sh`.
std::vector<Command> commands_of(const std::string& page) {
  std::vector<Command> commands;
  std::istringstream lines(text_of_file(std::string(SLUICE_SOURCE_DIR) + "/docs/" + page));
  bool inside = false;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("```")) {
      inside = line == "```sh";
      continue;
    }
    if (!inside) continue;
    const auto comment = line.find("   # ");
    Command command{line.substr(0, comment)};
    if (comment != std::string::npos)
      if (const auto digit = line.find_last_of("0123456789"); digit != std::string::npos && digit > comment) command.code = line[digit] - '0';
    commands.push_back(command);
  }
  return commands;
}

int run(const fs::path& folder, const std::string& command) {
  const std::string words = "cd '" + folder.string() + "' && export PATH='" + SLUICE_BINARY_DIR + "/bin':\"$PATH\" && " + command + " >log.txt 2>&1 </dev/null";
  const int status = std::system(words.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

// Catches a command that was changed in one language and not in the other.
TEST_CASE("both languages have the same commands") {
  const auto english = commands_of("out-of-memory.md"), chinese = commands_of("zh/out-of-memory.md");
  REQUIRE(english.size() >= 10);
  REQUIRE(english.size() == chinese.size());
  for (std::size_t i = 0; i < english.size(); ++i) {
    CHECK(english[i].text == chinese[i].text);
    CHECK(english[i].code == chinese[i].code);
  }
}

// Catches a page that promises what the program no longer does: an option that was renamed, a budget that has become too small.
TEST_CASE("every command of the page works as it stands, in its order") {
  const ScratchFolder folder;
  setenv("XDG_CACHE_HOME", (folder.path() / "cache").c_str(), 1);
  fs::create_directory_symlink(std::string(SLUICE_SOURCE_DIR) + "/pipelines", folder.path() / "pipelines");
  for (const auto* label : {"circle", "noise"})
    for (int i = 0; i < 6; ++i) {
      const fs::path file = folder.path() / "videos" / label / (std::to_string(i) + ".mp4");
      fs::create_directories(file.parent_path());
      const std::string scene = std::string(label) == "circle" ? "testsrc2=size=160x120:rate=15:duration=2" : "mandelbrot=size=160x120:rate=15,trim=duration=2";
      REQUIRE(std::system(("ffmpeg -v error -f lavfi -i '" + scene + "' -c:v libx264 -preset ultrafast -pix_fmt yuv420p '" + file.string() + "' </dev/null").c_str()) == 0);
    }
  for (const auto& command : commands_of("out-of-memory.md")) {
    CHECK(command.text.starts_with("sluice "));
    const int code = run(folder.path(), command.text);
    INFO(command.text << "\n" << text_of_file(folder.path() / "log.txt"));
    CHECK(code == command.code);
  }
  for (const auto* name : {"try", "twice", "one_worker", "frozen", "smaller", "preset"}) CHECK(learnt(folder.path() / "runs" / name).size() >= 2);
}
