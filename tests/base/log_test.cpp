// The log: whole lines whichever thread writes, in the console's and the file's form.
#include "framework/base/log.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include <sluice/error.hpp>
#include <unistd.h>

using namespace sluice;

// Catches lines that mix: four threads write at once, every line must arrive whole and once.
TEST_CASE("lines of several threads do not mix") {
  std::vector<std::string> lines;
  log::set_console([&](log::Level, std::string_view line) { lines.emplace_back(line); });
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([t] {
      for (int i = 0; i < 250; ++i) log::info("thread {} line {} {}", t, i, std::string(100, 'x'));
    });
  for (auto& thread : threads) thread.join();
  log::set_console({});
  CHECK(lines.size() == 1000);
  for (const auto& line : lines) CHECK(line.ends_with(std::string(100, 'x')));
}

TEST_CASE("levels below the wanted one are not shown") {
  int shown = 0;
  log::set_console([&](log::Level, std::string_view) { ++shown; });
  log::debug("not shown");
  log::info("shown");
  log::set_level(log::Level::error);
  log::warning("not shown");
  log::set_level(log::Level::info);
  log::set_console({});
  CHECK(shown == 1);
}

// Catches a format string that is applied to user text: a file called {}.mp4 must not throw.
TEST_CASE("braces in values are text") {
  std::string seen;
  log::set_console([&](log::Level, std::string_view line) { seen = line; });
  log::info("file {}", "{}{:d}%s.mp4");
  log::set_console({});
  CHECK(seen == "file {}{:d}%s.mp4");
}

TEST_CASE("a file gets time, level and line; a folder that is not there is an error") {
  const auto file = std::filesystem::temp_directory_path() / ("sluice_log_" + std::to_string(::getpid()) + ".txt");
  log::set_console([](log::Level, std::string_view) {});
  log::to_file(file);
  log::warning("the disk is nearly full");
  log::set_console({});
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  CHECK(line.find("Z warning the disk is nearly full") != std::string::npos);
  CHECK(line.substr(10, 1) == "T");
  std::filesystem::remove(file);
  CHECK_THROWS_AS(log::to_file("/proc/nowhere/log.txt"), Error);
}
