// A process is ended at every fault point of saving and loading, at its first to fifth time. The next process goes on as if nothing had been.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include <sys/wait.h>

#include "checkpoint_content.hpp"
#include "framework/state/checkpoint.hpp"
#include "framework/state/fault.hpp"
#include "../support/scratch_folder.hpp"

#include <sluice/error.hpp>

using namespace sluice;
using sluice::testing::KnownContent;
using sluice::testing::ScratchFolder;

namespace {

struct Ran {
  int status = 0;
  std::string out;
};

Ran child(const std::string& environment, const std::string& arguments) {
  struct Close {
    void operator()(std::FILE* pipe) const { ::pclose(pipe); }
  };
  Ran ran;
  const std::string command = environment + " exec '" SLUICE_CRASH_CHILD "' " + arguments + " 2>/dev/null";
  std::unique_ptr<std::FILE, Close> pipe(::popen(command.c_str(), "r"));
  REQUIRE(pipe);
  std::array<char, 4096> piece{};
  while (const auto count = std::fread(piece.data(), 1, piece.size(), pipe.get())) ran.out.append(piece.data(), count);
  ran.status = ::pclose(pipe.release());
  return ran;
}

std::int64_t last_durable(const std::string& out) {
  const auto at = out.rfind("durable ");
  return at == std::string::npos ? 0 : std::stoll(out.substr(at + 8));
}

}  // namespace

TEST_CASE("every fault point, five times: the next process finds what was durable and goes on") {
  // Catches a state on the disk that a crash leaves and nothing can read; and a new fault point that no case reaches.
  // Memory instead of a disk: what is synced does not matter here, the kernel goes on living.
  const std::filesystem::path where = std::filesystem::exists("/dev/shm") ? "/dev/shm" : std::filesystem::temp_directory_path();
  constexpr int rounds = 7;
  int cases = 0;
  for (const auto& name : fault_points()) {
    if (name.rfind("checkpoint.", 0) != 0) continue;
    for (int time = 1; time <= 5; ++time) {
      CAPTURE(name);
      CAPTURE(time);
      const ScratchFolder folder(where);
      const auto ended = child("SLUICE_FAULT=" + name + "@" + std::to_string(time), folder.path().string() + " " + std::to_string(rounds));
      REQUIRE_MESSAGE((WIFSIGNALED(ended.status) && WTERMSIG(ended.status) == SIGABRT), "the point was not reached: give crash_child a way that does");
      const auto durable = last_durable(ended.out);

      CheckpointStore store(folder.path(), {.keep = 1});
      const auto found = store.newest();
      if (durable > 0) REQUIRE(found.checkpoint);
      const auto step = found.checkpoint ? found.checkpoint->step() : 0;
      CHECK((step == durable || step == durable + 1));
      if (found.checkpoint) CHECK(KnownContent(step).difference(*found.checkpoint) == "");

      const auto after = child("", folder.path().string() + " 2");
      CHECK(after.status == 0);
      CHECK(last_durable(after.out) == step + 2);
      CHECK(KnownContent(step + 2).difference(*store.best()) == "");
      ++cases;
    }
  }
  MESSAGE(cases << " crashes");
  CHECK(cases >= 80);
}

TEST_CASE("the registry knows every fault point of the sources") {
  // Catches a point that is not registered, so that the case above would never see it.
  std::set<std::string> written;
  const std::regex pattern(R"re(fault_point<"([^"]+)">)re");
  for (const auto& entry : std::filesystem::directory_iterator(SLUICE_SOURCE_DIR "/framework/state")) {
    if (entry.path().extension() != ".cpp") continue;
    std::ifstream in(entry.path());
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    for (auto at = std::sregex_iterator(text.begin(), text.end(), pattern); at != std::sregex_iterator(); ++at) {
      CHECK_MESSAGE(written.insert((*at)[1]).second, "two places share the name " << (*at)[1]);
    }
  }
  CHECK(written.size() >= 16);
  const auto known = fault_points();
  for (const auto& name : written) CHECK_MESSAGE(std::find(known.begin(), known.end(), name) != known.end(), name);
  CHECK(std::is_sorted(known.begin(), known.end()));
}

TEST_CASE("a misspelt request is an error, not a test that passes") {
  const ScratchFolder folder;
  for (const std::string request : {"checkpoint.save.renamd", "checkpoint.save.renamed@0", "checkpoint.save.renamed@two", "''"}) {
    CAPTURE(request);
    const auto ran = child("SLUICE_FAULT=" + request, folder.path().string() + " 1");
    CHECK(WIFEXITED(ran.status));
    CHECK(WEXITSTATUS(ran.status) == 2);
  }
  CHECK(std::filesystem::is_empty(folder.path()));
}
