// extends: chains, paths, circles.
#include "framework/config/layers.hpp"

#include <doctest/doctest.h>

#include <sluice/error.hpp>

#include "framework/config/tables.hpp"
#include "framework/config/toml.hpp"
#include "tests/config/catalogue_of_manifests.hpp"

using namespace sluice;
using sluice::testing::Folder;

// Catches paths taken from the top file: each file names its base relative to itself.
TEST_CASE("a chain merges from the bottom, each path relative to the file that names it") {
  const Folder folder;
  static_cast<void>(folder.write("base/deep/root.toml", "[run]\nseed = 1\nname = 'root'\nepochs = 1\n"));
  static_cast<void>(folder.write("base/middle.toml", "extends = 'deep/root.toml'\n[run]\nname = 'middle'\n"));
  const auto top = folder.write("top.toml", "extends = \"base/middle.toml\"\n[run]\nepochs = 9\n");
  const Table table = read_layers(top);
  CHECK_FALSE(find(table, "extends"));
  const Table& run = *as_table(find(table, "run")->value);
  CHECK(std::get<std::int64_t>(find(run, "seed")->value.data) == 1);
  CHECK(*as_text(find(run, "name")->value) == "middle");
  CHECK(std::get<std::int64_t>(find(run, "epochs")->value.data) == 9);
  CHECK(find(run, "seed")->place.layer == 0);
  CHECK(find(run, "name")->place.layer == 1);
  CHECK(find(run, "epochs")->place.layer == 2);
  CHECK(folder_of(find(run, "seed")->place) == folder.path() / "base/deep");
}

TEST_CASE("a list of bases is applied in its order") {
  const Folder folder;
  static_cast<void>(folder.write("a.toml", "x = 1\ny = 1\n"));
  static_cast<void>(folder.write("b.toml", "y = 2\nz = 2\n"));
  const Table table = read_layers(folder.write("top.toml", "extends = ['a.toml', 'b.toml']\nz = 3\n"));
  CHECK(write_toml(table) == "x = 1\ny = 2\nz = 3\n");
}

// Stages are an ordered list: merging two by position would give a pipeline that nobody wrote.
TEST_CASE("a later [[stage]] list replaces the earlier whole") {
  const Folder folder;
  static_cast<void>(folder.write("base.toml", "[[stage]]\nplugin = 'a'\n[[stage]]\nplugin = 'b'\np = 1\n"));
  const Table table = read_layers(folder.write("top.toml", "extends = 'base.toml'\n[[stage]]\nplugin = 'c'\n"));
  REQUIRE(as_list(find(table, "stage")->value)->size() == 1);
  CHECK(write_toml(table) == "[[stage]]\nplugin = \"c\"\n");
}

TEST_CASE("circles, missing and broken bases are reported where they are named") {
  const Folder folder;
  static_cast<void>(folder.write("b.toml", "\nextends = 'a.toml'\n"));
  const auto a = folder.write("a.toml", "extends = 'b.toml'\n");
  CHECK_THROWS_WITH(static_cast<void>(read_layers(a)), doctest::Contains("b.toml:2:11: the files extend each other in a circle: a.toml -> b.toml -> a.toml"));
  CHECK_THROWS_WITH(static_cast<void>(read_layers(folder.write("self.toml", "extends = 'self.toml'\n"))), doctest::Contains("self.toml:1:11: "));
  CHECK_THROWS_WITH(static_cast<void>(read_layers(folder.write("c.toml", "x = 1\nextends = 'bsae.toml'\n"))), doctest::Contains("c.toml:2:11: cannot extend"));
  CHECK_THROWS_WITH(static_cast<void>(read_layers(folder.write("d.toml", "extends = 5\n"))), doctest::Contains("d.toml:1:11: extends must be a file name"));
  CHECK_THROWS_WITH(static_cast<void>(read_layers(folder.write("e.toml", "extends = ['a', 5]\n"))), doctest::Contains("e.toml:1:17: "));
  static_cast<void>(folder.write("broken.toml", "a = 1\na = 2\n"));
  CHECK_THROWS_WITH(static_cast<void>(read_layers(folder.write("f.toml", "extends = 'broken.toml'\n"))), doctest::Contains("broken.toml:2:1: "));
}

// Catches a circle hidden by a link, and a chain that grows until memory ends.
TEST_CASE("links do not hide a circle; a chain has an end") {
  const Folder folder;
  const auto a = folder.write("a.toml", "extends = 'link.toml'\n");
  std::filesystem::create_symlink(a, folder.path() / "link.toml");
  CHECK_THROWS_WITH(static_cast<void>(read_layers(a)), doctest::Contains("in a circle"));
  for (int i = 0; i < 40; ++i) static_cast<void>(folder.write(fmt::format("n{}.toml", i), fmt::format("extends = 'n{}.toml'\n", i + 1)));
  static_cast<void>(folder.write("n40.toml", "x = 1\n"));
  CHECK_THROWS_WITH(static_cast<void>(read_layers(folder.path() / "n0.toml")), doctest::Contains("too many files extend each other"));
  // A base that two layers share is no circle.
  static_cast<void>(folder.write("shared.toml", "x = 1\n"));
  static_cast<void>(folder.write("l.toml", "extends = 'shared.toml'\n"));
  static_cast<void>(folder.write("r.toml", "extends = 'shared.toml'\n"));
  CHECK_NOTHROW(static_cast<void>(read_layers(folder.write("both.toml", "extends = ['l.toml', 'r.toml']\n"))));
  // 2^n readings of the same base would take for ever.
  static_cast<void>(folder.write("w0.toml", "x = 1\n"));
  for (int i = 1; i < 15; ++i) static_cast<void>(folder.write(fmt::format("w{}.toml", i), fmt::format("extends = ['w{0}.toml', 'w{0}.toml']\n", i - 1)));
  CHECK_THROWS_WITH(static_cast<void>(read_layers(folder.path() / "w14.toml")), doctest::Contains("too many files"));
}

// --with. Catches an overlay below the file it is to change, a place that is another file's, a path that starts at the pipeline's folder.
TEST_CASE("files on top of the pipeline: the last wins, with their own places") {
  const Folder folder;
  const auto file = folder.write("p.toml", "[run]\nseed = 1\nname = 'p'\nepochs = 1\n");
  const auto a = folder.write("over/a.toml", "[run]\nseed = 2\nname = 'a'\n");
  static_cast<void>(folder.write("over/below.toml", "[run]\nepochs = 7\nseed = 7\n"));
  const auto b = folder.write("over/b.toml", "extends = 'below.toml'\n[run]\nseed = 3\n");
  const Table table = read_layers(file, {a, b});
  const Table& run = *as_table(find(table, "run")->value);
  CHECK(std::get<std::int64_t>(find(run, "seed")->value.data) == 3);
  CHECK(std::get<std::int64_t>(find(run, "epochs")->value.data) == 7);
  CHECK(*as_text(find(run, "name")->value) == "a");
  CHECK(find(run, "seed")->place.text().ends_with("over/b.toml:3:1"));
  CHECK(find(run, "seed")->place.layer > find(run, "name")->place.layer);
  CHECK(folder_of(find(run, "name")->place) == folder.path() / "over");
  CHECK_THROWS_WITH(static_cast<void>(read_layers(file, {folder.path() / "none.toml"})), doctest::Contains("none.toml: "));
}
