// Reporter: all that a person or a script learns of a run. The trainer calls it; it writes metrics.jsonl, failures.jsonl and
// TensorBoard events into the run's folder, and lines to the console.
//
//   Reporter reporter({.mode = Console::Mode::automatic});
//   reporter.progress("reading headers", 0.4);              // before the run is known, e.g. from Dataset's progress callback
//   reporter.run_started({...});
//   reporter.step({...});            reporter.tick();       // tick: a few times a second from a thread that has time
//   reporter.evaluation({...});      reporter.sync();       // sync before a checkpoint is saved
//   reporter.checkpoint_saved(...);  reporter.run_finished({...});
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "framework/flow/feed.hpp"
#include "framework/report/console.hpp"
#include "framework/report/live.hpp"
#include "framework/report/summary.hpp"

namespace sluice {

struct RunStart {
  std::string name;
  std::filesystem::path dir;  // exists
  std::int64_t total_steps = 0;
  std::int64_t epochs = 0;  // 0: declared in steps
  std::uint64_t budget = 0;  // host_ram in bytes
  // Resume: rows and events of later steps are dropped from the files. What was evaluated at this very step stays, so a
  // checkpoint is saved after the evaluation at its step.
  std::optional<std::int64_t> resumed_step{};
  std::vector<std::pair<std::string, std::string>> facts{};  // printed at the start: {"model", "r3d_18, 33.2 M parameters"}
  std::string pipeline{};  // canonical TOML, for TensorBoard's text tab
};

struct StepReport {
  std::int64_t step = 0;   // optimizer steps done, this one included
  std::int64_t epoch = 0;  // from 0
  double loss = 0;
  double lr = 0;
  std::vector<std::pair<std::string, double>> scalars{};  // further numbers of the loss, gradient norm, ...
  std::int64_t clips = 0;
  double seconds_waiting_for_data = 0;
  double seconds_computing = 0;
  AccountBytes accounts{};     // peak of the step
  bool last_of_epoch = false;  // a plain line follows
};

struct EvalReport {
  std::int64_t step = 0;
  std::int64_t epoch = 0;
  std::vector<std::pair<std::string, double>> numbers;       // {"accuracy.top1", 0.97}, {"loss", 0.12}
  std::vector<std::pair<std::string, std::string>> tables{};  // metric's name -> text, printed and kept in TensorBoard
  std::int64_t clips = 0;
  double seconds = 0;
  std::optional<BestResult> best{};  // when this one is the best so far
};

// The numeric plan after memory ran out, or when there was room again: with it a replay computes the same.
struct PlanReport {
  std::int64_t step = 0;  // the first that follows it; the one that is evaluated where that changed it
  std::int64_t microbatch = 1;
  std::int64_t chunk = 0;  // frames; 0: whole clips
  std::string computed_twice;  // segments
};

struct RunEnd {
  std::string outcome = "finished";
  std::optional<BestResult> best{};
  std::uint64_t peak_resident = 0;  // bytes
  std::vector<std::pair<std::string, std::filesystem::path>> places{};  // beside those that the reporter knows
};

// What goes on right now, for the live line between steps.
struct LiveStatus {
  FeedStatus feed;
  AccountBytes accounts{};
};

// Thread-safe. Warns of what RunWatch finds. Deterministic members of a row come first; "time" and "memory" hold what differs between two equal runs.
class Reporter {
 public:
  struct Options {
    Console::Mode mode = Console::Mode::automatic;
    int fd = 1;                  // standard output; warnings go to standard error
    double plain_seconds = 10;   // between plain lines, where there is no terminal
    double live_seconds = 0.2;   // least time between two redraws
    bool tensorboard = true;
    std::function<double()> seconds{};      // a steady clock; for tests
    std::function<LiveStatus()> status{};   // asked by tick(); may be set later
    std::function<std::uint64_t()> resident{};  // bytes of the process; for tests
  };
  explicit Reporter(Options options);
  ~Reporter();
  Reporter(const Reporter&) = delete;
  Reporter& operator=(const Reporter&) = delete;

  void set_status(std::function<LiveStatus()> status);  // empty before what it asks is destroyed

  // Work without steps: indexing, rendering, evaluating. fraction in [0, 1]; 1 ends it.
  void progress(std::string_view what, double fraction);
  void run_started(const RunStart& run);
  void step(const StepReport& report);
  // A batch whose `what` ("loss", "gradient") is no number: no update. A row each, a line where it begins.
  void not_finite(std::int64_t batch, std::int64_t epoch, std::string_view what, std::string_view more = {});
  // A sample that could not be used: a line (the first few), and a row of failures.jsonl.
  void failed(std::int64_t step, std::int64_t epoch, const Failed& failed);
  void evaluation(const EvalReport& report);
  void checkpoint_saved(std::int64_t step, const std::filesystem::path& folder, std::uint64_t bytes, double seconds, bool best);
  void plan_changed(const PlanReport& report);  // a row; the line is a warning of its own
  void note(std::string_view text);     // a line, and a row of metrics.jsonl
  void warning(std::string_view text);  // the same on standard error
  // What follows may take more than the budget, on purpose: a line, and memory is no longer warned of.
  void beyond_budget(std::string_view why);
  void image(std::string_view tag, std::int64_t step, std::string_view png, std::int64_t width, std::int64_t height);
  // Rows and events so far are on the disk when it returns.
  void sync();
  void tick();
  // Prints the table; returns what it says.
  Summary run_finished(const RunEnd& end);

  [[nodiscard]] Console& console();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice
