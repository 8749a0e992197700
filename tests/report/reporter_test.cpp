// The reporter as the trainer calls it: lines, rows, events, a resume.
#include <doctest/doctest.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include "../support/scratch_folder.hpp"
#include "framework/base/bytes.hpp"
#include "framework/base/log.hpp"
#include "framework/report/reporter.hpp"
#include "tiny_terminal.hpp"

using namespace sluice;
using sluice::testing::ScratchFolder;
using sluice::testing::TinyTerminal;

namespace {

// What was written to a file descriptor so far.
class Captured {
 public:
  Captured() : file_(std::tmpfile()) {}
  ~Captured() { std::fclose(file_); }
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;
  [[nodiscard]] int fd() const { return ::fileno(file_); }
  [[nodiscard]] std::string text() const {
    std::string out;
    std::array<char, 4096> piece{};
    off_t at = 0;
    for (ssize_t count = 0; (count = ::pread(fd(), piece.data(), piece.size(), at)) > 0; at += count) out.append(piece.data(), static_cast<std::size_t>(count));
    return out;
  }

 private:
  std::FILE* file_;
};

// Standard error goes elsewhere for a while.
class Stderr {
 public:
  Stderr() : kept_(::dup(2)) { ::dup2(captured.fd(), 2); }
  ~Stderr() {
    ::dup2(kept_, 2);
    ::close(kept_);
  }
  Captured captured;

 private:
  int kept_;
};

std::vector<nlohmann::json> rows_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::vector<nlohmann::json> rows;
  for (std::string line; std::getline(in, line);) rows.push_back(nlohmann::json::parse(line));
  return rows;
}

StepReport step_report(std::int64_t step, std::int64_t epoch, bool last) {
  StepReport report;
  report.step = step;
  report.epoch = epoch;
  report.loss = 1.0 / static_cast<double>(step);
  report.lr = 0.05;
  report.scalars = {{"grad_norm", 2.5}};
  report.clips = 8;
  report.seconds_waiting_for_data = 0.125;
  report.seconds_computing = 0.375;
  report.accounts[static_cast<std::size_t>(Account::activations)] = static_cast<std::uint64_t>(step) * MiB;
  report.last_of_epoch = last;
  return report;
}

std::int64_t count_of(const std::string& text, const std::string& what) {
  std::int64_t count = 0;
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

}  // namespace

TEST_CASE("a run without a terminal: lines at the ends of epochs and every ten seconds, rows for a script") {
  const ScratchFolder folder;
  const Captured out;
  const Stderr error;
  double time = 100;
  Reporter reporter({.mode = Console::Mode::automatic, .fd = out.fd(), .seconds = [&] { return time; }, .status = {}});
  reporter.progress("reading headers", 0);
  for (int i = 1; i < 100; ++i) reporter.progress("reading headers", i / 100.0);
  time += 11;
  reporter.progress("reading headers", 0.99);
  reporter.progress("reading headers", 1);
  reporter.note("said early");
  reporter.run_started({.name = "motion8", .dir = folder.path(), .total_steps = 40, .epochs = 2, .budget = 1536 * MiB, .facts = {{"model", "r3d"}}, .pipeline = "[run]\n"});
  for (std::int64_t step = 1; step <= 40; ++step) {
    time += 0.5;
    reporter.step(step_report(step, (step - 1) / 20, step % 20 == 0));
    reporter.tick();
    if (step % 20 != 0) continue;
    const auto value = step == 20 ? 0.5 : 0.975;
    reporter.evaluation({.step = step, .epoch = (step - 1) / 20, .numbers = {{"accuracy.top1", value}}, .tables = {{"confusion", "1 2\n3 4"}}, .clips = 100, .seconds = 2,
                         .best = BestResult{"accuracy.top1", value, step, (step - 1) / 20}});
    reporter.sync();
    reporter.checkpoint_saved(step, folder.path() / "checkpoints" / "step-x", 1000, 0.1, true);
  }
  reporter.warning("look here");
  log::info("from elsewhere");
  reporter.failed(40, 1, {"data/a.mp4", "moov atom not found", 7});
  reporter.failed(40, 1, {"data/b.mp4", "moov atom not found", 8});
  const auto summary = reporter.run_finished({.outcome = "finished", .best = BestResult{"accuracy.top1", 0.975, 40, 1}, .peak_resident = 1000 * MiB,
                                              .places = {{"checkpoints", folder.path() / "checkpoints"}}});

  const auto text = out.text();
  CAPTURE(text);
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK(text.find('\r') == std::string::npos);
  CHECK(count_of(text, "reading headers") == 2);
  CHECK(text.find("run motion8\n  model  r3d\n") != std::string::npos);
  CHECK(text.find("epoch 1/2  step 20  mean loss 0.1799  160 clips in 10.0 s\n  evaluated 100 clips in 2.0 s: accuracy.top1 0.5  (best so far)\n") != std::string::npos);
  CHECK(count_of(text, "step 2") <= 3);
  CHECK(text.find("finished: 40 steps, 320 clips in 31.0 s (16.0 clips/s in training, 25 % of it waiting for data)") != std::string::npos);
  CHECK(text.find("activations  40.0 MiB") != std::string::npos);
  CHECK(text.find("failed: 2 samples") != std::string::npos);
  CHECK(error.captured.text() == "warning: look here\nfrom elsewhere\nsample left out: data/a.mp4: moov atom not found\nsample left out: data/b.mp4: moov atom not found\n");
  CHECK(summary.epochs.size() == 2);

  const auto rows = rows_of(folder.path() / "metrics.jsonl");
  REQUIRE(rows.size() == 1 + 1 + 40 + 2 + 2 + 1 + 1);
  CHECK(rows[0]["text"] == "said early");
  CHECK(rows[2]["kind"] == "step");
  CHECK(rows[2]["loss"] == 1.0);
  CHECK(rows[2]["scalars"]["grad_norm"] == 2.5);
  CHECK(rows[2]["time"]["waiting"] == 0.125);
  CHECK(rows[2]["memory"]["activations"] == MiB);
  CHECK(rows[22]["kind"] == "eval");
  CHECK(rows[22]["numbers"]["accuracy.top1"] == 0.5);
  CHECK(rows[23]["kind"] == "checkpoint");
  CHECK(rows.back()["best"]["value"] == 0.975);
  const auto failures = rows_of(folder.path() / "failures.jsonl");
  REQUIRE(failures.size() == 2);
  CHECK(failures[1]["where"] == "data/b.mp4");
  CHECK(failures[1]["sample"] == 8);
}

TEST_CASE("a step that takes long, without a terminal, still gives a sign of life") {
  const ScratchFolder folder;
  const Captured out;
  double time = 0;
  Reporter reporter({.fd = out.fd(), .tensorboard = false, .seconds = [&] { return time; }, .status = {}});
  reporter.run_started({.name = "x", .dir = folder.path(), .total_steps = 4});
  reporter.set_status([] {
    LiveStatus status;
    status.feed.waiting_for = "decode.ffmpeg on sample 3 (25 s)";
    return status;
  });
  for (int i = 0; i < 100; ++i) {
    time += 0.25;
    reporter.tick();
  }
  CHECK(count_of(out.text(), "step 0/4  0 B  waits for decode.ffmpeg on sample 3 (25 s)\n") == 2);
  reporter.set_status({});
}

TEST_CASE("on a terminal: at most five redraws a second, no wrapped line, lines stay above") {
  // Catches a live line that scrolls, flickers, or eats the warnings.
  ::setenv("TERM", "xterm", 1);
  for (const int width : {40, 80, 200}) {
    CAPTURE(width);
    const ScratchFolder folder;
    const Stderr error;
    TinyTerminal terminal(width);
    double time = 0;
    {
      Reporter reporter({.fd = terminal.fd(), .tensorboard = false, .seconds = [&] { return time; }, .status = [] {
                           LiveStatus status;
                           status.feed.in_flight = 2;
                           status.feed.in_flight_limit = 4;
                           status.feed.waiting_for = "bytes for sample 17 (12 MiB)";
                           status.accounts[static_cast<std::size_t>(Account::samples)] = 40 * MiB;
                           return status;
                         }});
      for (int i = 0; i < 50; ++i) {
        time += 0.01;
        reporter.progress("rendering motion8", i / 50.0);
      }
      terminal.read();
      CHECK(terminal.current().find("rendering motion8 ") == 0);
      CHECK(terminal.redraws() <= 4);
      reporter.progress("rendering motion8", 1);
      reporter.run_started({.name = "motion8", .dir = folder.path(), .total_steps = 300, .epochs = 1, .budget = 100 * MiB});
      terminal.read();
      const int before = terminal.redraws();
      for (std::int64_t step = 1; step <= 299; ++step) {
        time += 0.05;
        auto report = step_report(step, 0, false);
        report.accounts = {};
        reporter.step(report);
        reporter.tick();
        if (step % 20 == 0) terminal.read();
      }
      terminal.read();
      CHECK(terminal.redraws() - before <= 299 / 4 + 2);
      CHECK(terminal.redraws() - before >= 55);
      CHECK(terminal.current().find("step 29") == 0);
      CHECK(terminal.current().find("loss ") != std::string::npos);
      if (width >= 200) CHECK(terminal.current().find("40.0 MiB of 100 MiB") != std::string::npos);
      if (width >= 200) CHECK(terminal.current().find("waits for bytes for sample 17") != std::string::npos);
      reporter.note("note");
      terminal.read();
      CHECK(terminal.lines().back() == "note");
      CHECK(terminal.current().find("step 29") == 0);
      time += 1;
      reporter.progress("evaluating", 0.5);
      terminal.read();
      if (width >= 80) CHECK(terminal.current().find("evaluating 50 %") != std::string::npos);
      for (const auto& fault : terminal.faults()) FAIL_CHECK(fault);
      terminal.live_limit = false;  // the summary's paths are not cut
      reporter.run_finished({});
    }
    terminal.read();
    CHECK(terminal.current() == "");
    CHECK(terminal.cursor_at_start());
    for (const auto& fault : terminal.faults()) FAIL_CHECK(fault);
  }
}

// Catches an evaluation of a minute whose log says nothing but the last step, as if the run hung.
TEST_CASE("without a terminal, an evaluation inside a run says how far it is") {
  const ScratchFolder folder;
  const Captured out;
  double time = 0;
  Reporter reporter({.fd = out.fd(), .tensorboard = false, .seconds = [&] { return time; }, .status = {}});
  reporter.run_started({.name = "x", .dir = folder.path(), .total_steps = 10});
  reporter.step(step_report(1, 0, false));
  for (int i = 0; i < 44; ++i) {
    time += 0.5;
    reporter.tick();
    if (i % 7 == 3) reporter.progress("evaluating", i / 100.0);  // a batch takes longer than a tick
  }
  CHECK(out.text().find("evaluating") != std::string::npos);
  CHECK(out.text().find("evaluating") != out.text().rfind("evaluating"));
  reporter.progress("evaluating", 1);
  const auto said = out.text().size();
  time += 20;
  reporter.tick();
  CHECK(out.text().find("evaluating", said) == std::string::npos);
}

TEST_CASE("a resumed run has the rows of one that was never interrupted") {
  // Catches rows that are lost or stand there twice, and a summary that forgets what was before.
  const auto run = [](const std::filesystem::path& dir, std::optional<std::int64_t> resumed, std::int64_t from, std::int64_t to) {
    const Captured out;
    const Stderr error;
    Reporter reporter({.fd = out.fd(), .tensorboard = true, .seconds = {}, .status = {}});
    reporter.run_started({.name = "x", .dir = dir, .total_steps = 10, .epochs = 2, .resumed_step = resumed});
    reporter.failed(resumed.value_or(0), 0, {"c.mp4", "no video", -1});  // of the source: met at every start
    for (auto step = from; step <= to; ++step) {
      reporter.step(step_report(step, (step - 1) / 5, step % 5 == 0));
      if (step == 3) reporter.failed(3, 0, {"a.mp4", "empty", 1});
      if (step == 8) reporter.failed(8, 1, {"b.mp4", "empty", 2});
      if (step % 5 == 0) reporter.evaluation({.step = step, .epoch = (step - 1) / 5, .numbers = {{"top1", 0.1 * static_cast<double>(step)}}, .clips = 4, .seconds = 1});
    }
    return to < 10 ? Summary{} : reporter.run_finished({});
  };
  const auto comparable = [](const std::filesystem::path& dir) {
    std::vector<nlohmann::json> rows;
    for (auto row : rows_of(dir / "metrics.jsonl")) {
      row.erase("time");
      row.erase("memory");
      if (row["kind"] == "step" || row["kind"] == "eval") rows.push_back(row);
    }
    for (auto row : rows_of(dir / "failures.jsonl")) {
      row.erase("time");
      rows.push_back(row);
    }
    return rows;
  };
  const ScratchFolder once, twice;
  const auto whole = run(once.path(), std::nullopt, 1, 10);
  run(twice.path(), std::nullopt, 1, 9);  // ends without a word, as a kill does
  std::ofstream(twice.path() / "metrics.jsonl", std::ios::app) << "{\"step\":10,\"ki";
  const auto rest = run(twice.path(), 6, 7, 10);
  CHECK(comparable(once.path()) == comparable(twice.path()));
  CHECK(rest.steps == whole.steps);
  CHECK(rest.clips == 32);
  REQUIRE(rest.epochs.size() == whole.epochs.size());
  for (std::size_t i = 0; i < whole.epochs.size(); ++i) {
    CHECK(rest.epochs[i].loss == whole.epochs[i].loss);
    CHECK(rest.epochs[i].clips == whole.epochs[i].clips);
    CHECK(rest.epochs[i].seconds == whole.epochs[i].seconds);
    CHECK(rest.epochs[i].numbers == whole.epochs[i].numbers);
  }
  CHECK(rest.failures.at("empty").count == 2);
  CHECK(rest.failures.at("no video").count == 1);

  // A new run in the same folder does not mix with the old one.
  run(twice.path(), std::nullopt, 1, 2);
  CHECK(rows_of(twice.path() / "metrics.jsonl").size() == 3);
  CHECK(rows_of(twice.path() / "metrics.1.jsonl").size() > 10);
}

TEST_CASE("quiet says nothing but warnings; the files are written all the same") {
  const ScratchFolder folder;
  const Captured out;
  const Stderr error;
  Reporter reporter({.mode = Console::Mode::quiet, .fd = out.fd(), .tensorboard = false, .seconds = {}, .status = {}});
  reporter.progress("x", 0.5);
  reporter.run_started({.name = "x", .dir = folder.path(), .total_steps = 1});
  reporter.step(step_report(1, 0, true));
  reporter.note("n");
  reporter.warning("w");
  reporter.run_finished({});
  CHECK(out.text().find("finished: 1 step, 8 clips") == 0);  // the table at the end, and nothing before it
  CHECK(error.captured.text() == "warning: w\n");
  CHECK(rows_of(folder.path() / "metrics.jsonl").size() == 5);
}

TEST_CASE("called from several threads at once") {
  // For the thread sanitizer; and no row may be torn.
  const ScratchFolder folder;
  const Captured out;
  const Stderr error;
  Reporter reporter({.fd = out.fd(), .tensorboard = true, .seconds = {}, .status = {}});
  reporter.run_started({.name = "x", .dir = folder.path(), .total_steps = 400});
  std::vector<std::jthread> threads;
  for (int thread = 0; thread < 3; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < 100; ++i) {
        if (thread == 0) reporter.step(step_report(i + 1, 0, false));
        if (thread == 1) reporter.tick(), reporter.set_status([] { return LiveStatus{}; });
        if (thread == 2) reporter.failed(1, 0, {"a", "b", i}), reporter.progress("p", i / 100.0), log::info("line");
      }
    });
  }
  threads.clear();
  CHECK(rows_of(folder.path() / "failures.jsonl").size() == 100);
  CHECK(rows_of(folder.path() / "metrics.jsonl").size() == 101);
}

// Catches: a warning for each step, one that no script finds in metrics.jsonl, a live line that keeps silent or never stops.
TEST_CASE("troubles: one line when they begin, one row that says what about, and a mark in the line while they last") {
  const ScratchFolder folder;
  const Captured out;
  const Stderr error;
  double time = 0;
  std::uint64_t resident = 250 * MiB;
  Reporter reporter({.fd = out.fd(), .plain_seconds = 1, .tensorboard = false, .seconds = [&] { return time; }, .status = {}, .resident = [&] { return resident; }});
  reporter.run_started({.name = "x", .dir = folder.path(), .total_steps = 1000, .budget = 500 * MiB});
  const auto steps = [&](std::int64_t from, std::int64_t to, double loss) {
    for (std::int64_t step = from; step < to; ++step) {
      auto report = step_report(step, 0, false);
      report.loss = loss;
      time += 0.5;
      reporter.step(report);
      reporter.tick();
    }
  };
  steps(1, 101, 1.0);
  CHECK(error.captured.text().empty());
  CHECK(out.text().find('!') == std::string::npos);
  resident = 475 * MiB;
  steps(101, 111, 1.0);
  CHECK(count_of(error.captured.text(), "warning: 475 MiB of the budget of 500 MiB") == 1);
  CHECK(out.text().find("loss 1  ! memory 95 %") != std::string::npos);
  resident = 250 * MiB;
  steps(111, 311, 2.0);
  CHECK(count_of(error.captured.text(), "warning: the loss rises") == 1);
  CHECK(out.text().find("! loss rises") != std::string::npos);
  for (int i = 0; i < 5; ++i) reporter.not_finite(i, 3, "gradient");
  const auto lines = error.captured.text();
  CHECK(count_of(lines, "warning: the gradient of batch 0 of epoch 3 is not finite") == 1);
  CHECK(count_of(lines, "\n") == 3);

  std::vector<std::string> about;
  int batches = 0;
  for (const auto& row : rows_of(folder.path() / "metrics.jsonl"))
    if (row["kind"] == "warning") {
      if (row.contains("about")) about.push_back(row["about"]);
      else batches += row["text"].get<std::string>().find("of epoch 3: the gradient is not finite") != std::string::npos ? 1 : 0;
    }
  CHECK(about == std::vector<std::string>{"memory", "loss", "finite"});
  CHECK(batches == 5);
}
