// The rooms of DESIGN section 3: who may include what. Catches a third-party header or a room boundary that leaks.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace fs = std::filesystem;

namespace {

struct Include {
  std::string file;  // relative to the source folder
  int line;
  std::string header;
};

const fs::path root = SLUICE_SOURCE_DIR;

std::vector<Include> includes_of(const std::vector<std::string>& folders) {
  static const std::regex pattern(R"(^\s*#\s*include\s*[<"]([^>"]+)[>"])");
  std::vector<Include> found;
  for (const auto& folder : folders) {
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      const auto extension = entry.path().extension();
      if (extension != ".hpp" && extension != ".cpp") continue;
      std::ifstream in(entry.path());
      std::string line;
      for (int number = 1; std::getline(in, line); ++number) {
        std::smatch match;
        if (std::regex_search(line, match, pattern))
          found.push_back({fs::relative(entry.path(), root).string(), number, match[1]});
      }
    }
  }
  return found;
}

bool starts_with_any(const std::string& text, const std::vector<std::string>& prefixes) {
  for (const auto& prefix : prefixes)
    if (text.rfind(prefix, 0) == 0) return true;
  return false;
}

// The room of a framework file: "framework/flow/feed.cpp" -> "flow".
std::string room_of(const std::string& file) {
  const auto first = file.find('/') + 1;
  return file.substr(first, file.find('/', first) - first);
}

// What each room may include of the others (DESIGN section 3).
const std::map<std::string, std::set<std::string>> allowed = {
    {"base", {"base"}},
    {"config", {"base", "config", "plugin"}},
    {"memory", {"base", "memory"}},
    {"plugin", {"base", "config", "plugin"}},
    {"flow", {"base", "config", "memory", "plugin", "flow"}},
    {"state", {"base", "memory", "state"}},
    {"report", {"base", "memory", "flow", "state", "report"}},
    {"train", {"base", "config", "memory", "plugin", "flow", "state", "report", "train"}},
    {"app", {"base", "config", "memory", "plugin", "flow", "state", "report", "app"}},
};

const std::vector<std::string> torch_headers = {"torch/", "ATen/", "c10/", "caffe2/"};

// Third-party headers and the only places that may include them.
struct Owned {
  std::vector<std::string> prefixes;
  std::vector<std::string> places;
};
const std::vector<Owned> owned = {
    {{"tbb/", "oneapi/"}, {"framework/flow/"}},
    {torch_headers, {"framework/train/", "sdk/include/sluice/torch/", "plugins/"}},
    {{"toml++/", "toml.hpp"}, {"framework/config/"}},
    {{"boost/dll/"}, {"framework/plugin/", "framework/app/"}},
    {{"boost/intrusive/"}, {"framework/train/kept_blocks."}},
    {{"opencv2/"}, {"plugins/"}},
    {{"libavformat/", "libavcodec/", "libavutil/", "libswscale/"}, {"plugins/"}},
    {{"CLI/"}, {"framework/app/"}},
};

}  // namespace

TEST_CASE("third-party headers stay in the room named for them") {
  for (const auto& include : includes_of({"framework", "sdk", "plugins"})) {
    for (const auto& rule : owned) {
      if (!starts_with_any(include.header, rule.prefixes)) continue;
      INFO(include.file << ":" << include.line << " includes " << include.header);
      CHECK(starts_with_any(include.file, rule.places));
    }
  }
}

TEST_CASE("framework rooms include only the rooms below them") {
  for (const auto& include : includes_of({"framework"})) {
    if (include.header.rfind("framework/", 0) != 0) continue;
    const bool door = include.header == "framework/train/entry.hpp";  // has no LibTorch in it; the command line loads what is behind
    INFO(include.file << ":" << include.line << " includes " << include.header);
    CHECK((allowed.at(room_of(include.file)).count(room_of(include.header)) > 0 || door));
  }
}

TEST_CASE("plugins and SDK never include the framework") {
  for (const auto& include : includes_of({"plugins", "sdk", "examples"})) {
    INFO(include.file << ":" << include.line << " includes " << include.header);
    CHECK(include.header.rfind("framework/", 0) != 0);
    CHECK(include.header.find("../framework") == std::string::npos);
  }
}

TEST_CASE("the stage half of the SDK needs the standard library alone") {
  for (const auto& include : includes_of({"sdk"})) {
    if (include.file.find("/sluice/torch/") != std::string::npos) continue;
    INFO(include.file << ":" << include.line << " includes " << include.header);
    const bool standard = include.header.find('/') == std::string::npos && include.header.find(".h") == std::string::npos;
    CHECK((standard || include.header.rfind("sluice/", 0) == 0));
  }
}

TEST_CASE("the scan sees what it should: a planted include is found") {
  const auto all = includes_of({"framework", "sdk"});
  CHECK(all.size() > 100);
  CHECK(starts_with_any("tbb/flow_graph.h", owned[0].prefixes));
  CHECK_FALSE(starts_with_any("framework/config/x.cpp", owned[0].places));
  CHECK(room_of("framework/flow/feed.cpp") == "flow");
}
