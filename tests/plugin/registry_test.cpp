// Listing: which plugins there are, who wins, what was refused and why.
#include "framework/plugin/registry.hpp"

#include <doctest/doctest.h>

#include <ctime>

#include <sluice/error.hpp>

#include "tests/plugin/fixtures.hpp"

using namespace sluice;
using namespace sluice::testing;

TEST_CASE("a folder is listed by name, files of several plugins under each") {
  const PluginFolder folder;
  static_cast<void>(folder.add("every_field"));
  static_cast<void>(folder.add("two_in_one"));
  static_cast<void>(folder.add("no_plugin"));
  std::ofstream(folder.path() / "notes.txt") << "not looked at";
  Registry registry;
  registry.add_path(folder.path());
  std::vector<std::string> names;
  for (const auto& found : registry.all()) names.emplace_back(found.manifest->name);
  CHECK(names == std::vector<std::string>{"augment.every_field", "augment.first", "augment.second", "frames.third"});
  CHECK(registry.names(abi::Kind::frames) == std::vector<std::string>{"frames.third"});
  CHECK(registry.find("augment.second").file == folder.path() / "two_in_one.so");
  CHECK_FALSE(registry.find("augment.third").manifest);
  REQUIRE(registry.refused().size() == 1);
  CHECK(registry.refused()[0].first == folder.path() / "no_plugin.so");
  CHECK(registry.refused()[0].second.find("no manifest") != std::string::npos);
  CHECK(registry.suggestions("augment.frist").front() == "augment.first");
  CHECK(registry.searched() == std::vector<std::string>{folder.path().string()});
}

TEST_CASE("a later path wins; it may be a single file") {
  const PluginFolder first, second;
  static_cast<void>(first.add("marker"));
  const fs::path file = second.add("twin");
  Registry registry;
  registry.add_path(first.path());
  CHECK(std::string(registry.manifest("augment.marker")->help) == "Leaves a mark when it is loaded.");
  registry.add_path(file);
  CHECK(std::string(registry.manifest("augment.marker")->help) == "The other one.");
  CHECK(registry.all().size() == 1);
  CHECK(registry.load("augment.marker").manifest->help == std::string("The other one."));
}

// Catches a choice by the order of the file system.
TEST_CASE("two files of one folder with the same name are both refused it") {
  const PluginFolder folder;
  static_cast<void>(folder.add("marker"));
  static_cast<void>(folder.add("twin"));
  static_cast<void>(folder.add("marker", "third.so"));
  Registry registry;
  registry.add_path(folder.path());
  CHECK_FALSE(registry.find("augment.marker").manifest);
  CHECK(registry.refusal("augment.marker").find("marker.so and " + (folder.path() / "third.so").string() + " both hold it") != std::string::npos);
  CHECK(registry.refused().size() == 2);
  CHECK_THROWS_WITH(static_cast<void>(registry.load("augment.marker")), doctest::Contains("both hold it"));
}

TEST_CASE("a path that does not exist is a mistake of the configuration") {
  Registry registry;
  CHECK_THROWS_WITH(registry.add_path("/no/such/folder"), doctest::Contains("there is no '/no/such/folder'"));
}

TEST_CASE("a registry may move; its manifests stay") {
  const PluginFolder folder;
  static_cast<void>(folder.add("marker"));
  Registry registry;
  registry.add_path(folder.path());
  const abi::Manifest* manifest = registry.manifest("augment.marker");
  Registry moved = std::move(registry);
  CHECK(moved.manifest("augment.marker") == manifest);
}

// The whole command line waits for this (<= 100 ms for --help, plugins and every configuration error).
TEST_CASE("fifty files are listed in 10 ms of processor time") {
  const PluginFolder folder;
  for (int i = 0; i < 50; ++i) static_cast<void>(folder.add("every_field", "plugin" + std::to_string(i) + ".so"));
  double best = 1;
  for (int trial = 0; trial < 5; ++trial) {
    const std::clock_t start = std::clock();
    Registry registry;
    registry.add_path(folder.path());
    best = std::min(best, static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
    CHECK(registry.refused().size() == 49);  // all hold the same name
  }
  MESSAGE("50 files: ", best * 1e3, " ms");
  CHECK(best < 0.010);
}
