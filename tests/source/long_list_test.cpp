// A list of 10^6 lines: seconds, and memory that does not grow with the text of the lines.
#include <doctest/doctest.h>

#include <malloc.h>
#include <sys/resource.h>

#include <ctime>
#include <fstream>

#include "../support/plugin_host.hpp"
#include "../support/scratch_folder.hpp"

using namespace sluice;
using namespace sluice::testing;
namespace fs = std::filesystem;

TEST_CASE("a million lines in less than 10 s of processor time and 128 MiB") {
  const ScratchFolder folder;
  constexpr int files = 20000, lines = 1000000;
  for (int d = 0; d < 100; ++d) fs::create_directories(folder.path() / ("a folder of videos with a rather long name " + std::to_string(d)));
  const auto name = [](int i) { return "a folder of videos with a rather long name " + std::to_string(i % 100) + "/video number " + std::to_string(i) + ".mp4"; };
  for (int i = 0; i < files; ++i) std::ofstream(folder.path() / name(i)) << 'x';
  {
    std::ofstream list(folder.path() / "list.csv");
    list << "path,label,start,end\n";
    for (int i = 0; i < lines; ++i) list << name(i % files) << ",class " << i % 400 << ',' << i / files << ',' << i / files + 1 << '\n';
  }
  const auto peak = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss / 1024;
  };
  const auto recipe = built("source.video_list", {{"path", (folder.path() / "list.csv").string()}, {"unit", "seconds"}});
  malloc_trim(0);
  const auto before = peak();
  const auto start = std::clock();
  const auto listed = recipe.list({}, false);
  const auto seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  MESSAGE(lines << " lines, " << fs::file_size(folder.path() / "list.csv") / 1024 / 1024 << " MiB: " << seconds << " s, resident peak grows by " << peak() - before << " MiB");
  CHECK(listed.added == lines);
  CHECK(listed.classes.size() == 400);
  CHECK(seconds < 10);
  CHECK(peak() - before < 128);
}
