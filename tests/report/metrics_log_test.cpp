// Rows of metrics.jsonl: exact numbers, whole lines, a resume that repeats and loses none.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <csignal>
#include <cstring>
#include <fstream>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <sys/resource.h>

#include "../support/scratch_folder.hpp"
#include "framework/report/metrics_log.hpp"

#include <sluice/error.hpp>

using namespace sluice;
using sluice::testing::ScratchFolder;

namespace {

std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<nlohmann::json> rows_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::vector<nlohmann::json> rows;
  for (std::string line; std::getline(in, line);) rows.push_back(nlohmann::json::parse(line));
  return rows;
}

}  // namespace

TEST_CASE("every double comes back as it was") {
  // Catches %g and six digits: a resumed loss log could not be compared.
  const ScratchFolder folder;
  MetricsLog log(folder.path() / "m.jsonl");
  std::mt19937_64 random(5);
  std::vector<double> values = {0.0, -0.0, 0.1, 1.0 / 3, 5e-324, 1.7976931348623157e308, 1e22, 123456789012345680.0, -2.5};
  while (values.size() < 5000) {
    const auto value = std::bit_cast<double>(random());
    if (std::isfinite(value)) values.push_back(value);
  }
  for (std::size_t i = 0; i < values.size(); ++i) log.append(static_cast<std::int64_t>(i), JsonRow().add("x", values[i]));
  const auto rows = rows_of(log.file());
  REQUIRE(rows.size() == values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    CHECK(rows[i]["step"] == i);
    const auto back = rows[i]["x"].get<double>();
    CHECK(std::bit_cast<std::uint64_t>(back == 0 ? 0.0 : back) == std::bit_cast<std::uint64_t>(values[i] == 0 ? 0.0 : values[i]));
  }
  CHECK(text_of(log.file()).find("\"x\":-0}") != std::string::npos);
}

TEST_CASE("what JSON has no number for is a text that Python's float() reads") {
  const ScratchFolder folder;
  MetricsLog log(folder.path() / "m.jsonl");
  log.append(1, JsonRow().add("a", std::nan("")).add("b", INFINITY).add("c", -INFINITY));
  log.append(-3, JsonRow());
  log.append(2, JsonRow().add("text", "\"\\\n\x01 \xff \xe8\xa7\x86").add("yes", true).add("n", std::uint64_t{18446744073709551615u})
                    .add("list", std::vector<std::string>{"a", "b\""}).add("in", JsonRow().add("x", std::int64_t{-1})));
  CHECK(text_of(log.file()).substr(0, 61) == "{\"step\":1,\"a\":\"NaN\",\"b\":\"Infinity\",\"c\":\"-Infinity\"}\n{\"step\":-");
  const auto rows = rows_of(log.file());
  CHECK(rows[1] == nlohmann::json{{"step", -3}});
  CHECK(rows[2]["text"] == "\"\\\n\x01 \xef\xbf\xbd \xe8\xa7\x86");
  CHECK(rows[2]["n"] == 18446744073709551615u);
  CHECK(rows[2]["list"][1] == "b\"");
  CHECK(rows[2]["in"]["x"] == -1);
}

TEST_CASE("a resume keeps the rows up to its step, whatever the kill left at the end") {
  // Catches a half line that swallows the next row, and rows that stand there twice.
  const std::string whole = "{\"step\":1,\"loss\":0.5}\n{\"step\":2,\"loss\":0.25}\n";
  for (const std::string tail : {"", "{\"step\":3,\"loss\":0.125}\n", "{\"step\":3,\"lo", "{\"step\":2,\"loss\":9}", "\n", "null\n", "[1]\n", "{\"loss\":1}\n", "{\"step\":\"2\"}\n"}) {
    CAPTURE(tail);
    const ScratchFolder folder;
    const auto file = folder.path() / "m.jsonl";
    std::ofstream(file, std::ios::binary) << whole << tail << std::string(tail == "null\n" ? 100 : 0, '\0');
    MetricsLog log(file);
    std::string kept;
    const auto dropped = log.continue_from(2, [&](std::string_view row) { kept += std::string(row) + "\n"; });
    CHECK(kept == whole);
    CHECK(text_of(file) == whole);
    CHECK((dropped > 0) == !tail.empty());
    log.append(3, JsonRow().add("loss", 0.125));
    CHECK(text_of(file) == whole + "{\"step\":3,\"loss\":0.125}\n");
    CHECK_FALSE(std::filesystem::exists(folder.path() / "m.jsonl.tmp"));
  }
}

TEST_CASE("killed at every byte: a resume from any step is as if nothing had been") {
  const ScratchFolder folder;
  const auto file = folder.path() / "m.jsonl";
  std::string whole;
  {
    MetricsLog log(file);
    for (std::int64_t step = 1; step <= 3; ++step) log.append(step, JsonRow().add("loss", 1.0 / static_cast<double>(step)));
    whole = text_of(file);
  }
  for (std::size_t size = 0; size <= whole.size(); ++size) {
    std::ofstream(file, std::ios::binary) << whole.substr(0, size);
    MetricsLog log(file);
    std::int64_t rows = 0;
    for (std::size_t i = 0; i < size; ++i) rows += whole[i] == '\n';
    // The checkpoint is of a step whose rows were synced: at most what is there.
    const auto step = rows / 2;
    log.continue_from(step);
    for (auto again = step + 1; again <= 3; ++again) log.append(again, JsonRow().add("loss", 1.0 / static_cast<double>(again)));
    CHECK(text_of(file) == whole);
  }
}

TEST_CASE("a full disk leaves the rows before, whole") {
  // The limit on a file's size stands for the disk: the kernel writes a part of the row and then refuses.
  const ScratchFolder folder;
  MetricsLog log(folder.path() / "m.jsonl");
  log.append(1, JsonRow().add("loss", 0.5));
  const auto before = text_of(log.file());
  rlimit old{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &old) == 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = old;
  small.rlim_cur = before.size() + 10;
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  std::string message;
  try {
    log.append(2, JsonRow().add("loss", 0.25));
  } catch (const Error& error) {
    message = error.what();
    CHECK(error.code() == Code::io);
    CHECK(error.where() == log.file().string());
  }
  ::setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  CHECK(message.find("cannot append 23 bytes") != std::string::npos);
  CHECK(text_of(log.file()) == before);
  log.append(2, JsonRow().add("loss", 0.25));
  CHECK(rows_of(log.file()).size() == 2);
  CHECK_THROWS_AS(MetricsLog(folder.path() / "none" / "m.jsonl"), Error);
}
