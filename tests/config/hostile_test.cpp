// Files that were written to break the reader: refused quickly, with a place, without a crash. Deep nesting that reached toml++
// would overflow the stack; that is what these cases plant.
#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <ctime>

#include "framework/config/load.hpp"
#include "framework/config/problems.hpp"
#include "framework/config/toml.hpp"
#include "tests/config/catalogue_of_manifests.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

std::string repeated(std::string_view what, std::size_t times) {
  std::string out;
  for (std::size_t i = 0; i < times; ++i) out += what;
  return out;
}

// The error's text; fails when there is none or when it takes 100 ms.
std::string refusal(const Folder& folder, const std::string& text) {
  ManifestCatalogue catalogue;
  const auto file = folder.write("h.toml", text);
  const std::clock_t start = std::clock();  // of this process: another one on the machine is no fault of ours
  std::string what;
  try {
    static_cast<void>(load_pipeline(file, {}, catalogue));
  } catch (const Error& error) {
    what = error.what();
    CHECK(error.code() == Code::configuration);
  }
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  CHECK_MESSAGE(seconds < 0.1, what.substr(0, 200), " took ", seconds, " s");
  CHECK_FALSE(what.empty());
  return what;
}

}  // namespace

TEST_CASE("depth is bounded before the parser recurses") {
  const Folder folder;
  CHECK(refusal(folder, repeated("a.", 30000) + "a = 1\n").find("h.toml:1:32: the key has more than 16 parts") != std::string::npos);
  CHECK(refusal(folder, "x = 1\n[" + repeated("a.", 30000) + "a]\n").find("h.toml:2:33: ") != std::string::npos);
  CHECK(refusal(folder, repeated("\"a\" . ", 30000) + "a = 1\n").find("more than 16 parts") != std::string::npos);
  CHECK(refusal(folder, "x = " + repeated("[", 100000)).find("nested more than 32 deep") != std::string::npos);
  CHECK(refusal(folder, "x = " + repeated("{a=", 80000)).find("nested more than 32 deep") != std::string::npos);
  CHECK(refusal(folder, "x = " + repeated("[{a=", 1000) + "1" + repeated("}]", 1000)).find("nested more than 32 deep") != std::string::npos);
  CHECK(refusal(folder, "x = { y = { " + repeated("a.", 100) + "a = 1 } }").find("more than 16 parts") != std::string::npos);
  // Dots in texts and comments are no depth.
  const std::string dots = repeated("a.", 100);
  CHECK_NOTHROW(static_cast<void>(parse_toml("x = \"" + dots + "\" # " + dots + "\ny = '" + dots + "'\nz = \"\"\"\n" + dots + "\n\\\"\"\"\"\n[t]\nw = '''" + dots + "'''\n", "f", 0)));
}

TEST_CASE("size is bounded before anything is read") {
  const Folder folder;
  CHECK(refusal(folder, std::string((256 << 10) + 1, '#')).find("has 256 KiB, more than a pipeline may have") != std::string::npos);
  const auto sparse = folder.write("sparse.toml", "");
  std::filesystem::resize_file(sparse, std::uintmax_t{1} << 40);
  ManifestCatalogue catalogue;
  CHECK_THROWS_WITH(static_cast<void>(load_pipeline(sparse, {}, catalogue)), doctest::Contains("has 1.00 TiB, more than a pipeline may have"));
}

TEST_CASE("as many mistakes as fit into a file are reported within 100 ms") {
  const Folder folder;
  std::string keys = "[plan]\n", sections, stages, tokens;
  for (int i = 0; i < 12000; ++i) keys += fmt::format("unknown_key_{} = 1\n", i);
  for (int i = 0; i < 14000; ++i) sections += fmt::format("[section_{}]\n", i);
  for (int i = 0; i < 6000; ++i) stages += fmt::format("[[stage]]\nplugin = 'augment.hflop{}'\n", i);
  CHECK(refusal(folder, keys).find("more") != std::string::npos);
  CHECK(refusal(folder, sections).find("more") != std::string::npos);
  CHECK(refusal(folder, stages).find("more") != std::string::npos);
  CHECK(refusal(folder, "x = [" + repeated("1,", 120000)).find("h.toml:1:") != std::string::npos);
  CHECK(refusal(folder, "x = \"" + repeated("a", 250000)).find("h.toml:1:") != std::string::npos);
}

TEST_CASE("bytes that are no UTF-8 are named with their place") {
  const Folder folder;
  CHECK(refusal(folder, "[run]\nname = \"a\xFF\"\n").find("h.toml:2:10: the byte 0xff is not UTF-8") != std::string::npos);
  CHECK(refusal(folder, "[run]\nname = \"视\xE8\xA7\"\n").find("h.toml:2:10: the byte 0xe8 is not UTF-8") != std::string::npos);
  CHECK(refusal(folder, std::string("\xFF\xFE[\0r\0", 6)).find("the file is UTF-16") != std::string::npos);
  CHECK(refusal(folder, std::string("a = 1\0\n", 7)).find("h.toml:1:6: ") != std::string::npos);
  CHECK(refusal(folder, "\x1b[2J = 1\n").find('\x1b') == std::string::npos);
  CHECK(refusal(folder, "[run]\n\"\x7f\" = 1\n").find('\x7f') == std::string::npos);
  CHECK(refusal(folder, "[run]\n\"\\u001b[2J\" = 1\n").find('\x1b') == std::string::npos);
}

TEST_CASE("an empty file, and one of comments alone, name what is missing") {
  const Folder folder;
  for (const char* text : {"", "\n\n", "# nothing\n", "\xEF\xBB\xBF"}) CHECK(refusal(folder, text).find("there is no section [data]") != std::string::npos);
}

// Any bytes: an error or a pipeline, never a crash. Mutations of a right file reach further than noise.
TEST_CASE("mutated pipelines are read or refused") {
  const Folder folder;
  rc::check("no crash", [&] {
    std::string text = right_pipeline;
    for (int n = *rc::gen::inRange(1, 8); n > 0; --n) {
      const auto at = static_cast<std::size_t>(*rc::gen::inRange(0, static_cast<int>(text.size())));
      switch (*rc::gen::inRange(0, 4)) {
        case 0: text[at] = *rc::gen::arbitrary<char>(); break;
        case 1: text.erase(at, static_cast<std::size_t>(*rc::gen::inRange(1, 20))); break;
        case 2: text.insert(at, std::string(1, *rc::gen::elementOf(std::string("[]{}=.\"'\n#,\\")))); break;
        default: text.insert(at, text.substr(static_cast<std::size_t>(*rc::gen::inRange(0, static_cast<int>(text.size()))), 30)); break;
      }
      if (text.empty()) text = " ";
    }
    ManifestCatalogue catalogue;
    try {
      static_cast<void>(load_pipeline(folder.write("m.toml", text), {}, catalogue));
    } catch (const Error& error) {
      RC_ASSERT(!error.message().empty());
      RC_ASSERT(!error.where().empty());
    }
  });
}
