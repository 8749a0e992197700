// The reporter: turns what the trainer says into rows, events and lines.
#include "framework/report/reporter.hpp"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "framework/base/bytes.hpp"
#include "framework/base/clock.hpp"
#include "framework/base/log.hpp"
#include "framework/base/strings.hpp"
#include "framework/memory/process.hpp"
#include "framework/report/history.hpp"
#include "framework/report/run_files.hpp"
#include "framework/report/run_watch.hpp"
#include "framework/report/table.hpp"

namespace sluice {
namespace {

constexpr int failures_shown = 10;      // as lines; all are in failures.jsonl
constexpr double seconds_of_speed = 1;  // between two events of speed and memory: they are for the eye

JsonRow numbers_row(const std::vector<std::pair<std::string, double>>& numbers) {
  JsonRow row;
  for (const auto& [name, value] : numbers) row.add(name, value);
  return row;
}

JsonRow memory_row(const AccountBytes& accounts) {
  JsonRow row;
  for (std::size_t i = 0; i < accounts.size(); ++i)
    if (accounts[i] > 0) row.add(name_of(static_cast<Account>(i)), accounts[i]);
  return row;
}

std::string numbers_text(const std::vector<std::pair<std::string, double>>& numbers) {
  std::vector<std::string> parts;
  for (const auto& [name, value] : numbers) parts.push_back(fmt::format("{} {:.4g}", name, value));
  return join(parts, "  ");
}

}  // namespace

struct Reporter::Impl {
  explicit Impl(Options given) : options(std::move(given)), console(options.fd, options.mode), started(now()) {}

  [[nodiscard]] double now() const { return options.seconds ? options.seconds() : watch.seconds(); }

  void append(std::int64_t step, const JsonRow& row) {
    if (!files) {
      early.emplace_back(step, row);
      return;
    }
    for (const auto& [at, late] : std::exchange(late_rows, {})) files->metrics.append(at, late);
    files->metrics.append(step, row);
  }
  void scalar(const std::string& tag, std::int64_t step, double value) {
    if (files && files->events) files->events->scalar(tag, step, value);
  }
  void draw(bool at_once) {
    const double time = now();
    if (!console.live() || !running || (!at_once && drawn_at && time - *drawn_at < options.live_seconds)) return;
    drawn_at = time;
    console.show(live_text(state, console.width() - 1));
  }
  void plain_line() {
    if (console.live() || console.quiet()) return;
    plain_at = now();
    console.print(plain_text(state));
  }
  void message(std::string_view text, const char* kind) {
    append(state.step, JsonRow().add("kind", kind).add("text", text).add("time", JsonRow().add("at", utc_now())));
  }

  // Its row is written with the next: a thread that only has time must not meet a full disk.
  void tell(const RunWatch::Trouble& trouble) {
    late_rows.emplace_back(state.step, JsonRow().add("kind", "warning").add("about", name_of(trouble.kind)).add("text", trouble.text).add("time", JsonRow().add("at", utc_now())));
    console.print_error(fmt::format("warning: {}", trouble.text));
  }
  void look_at_memory() {
    if (!running || run.budget == 0) return;
    if (const auto trouble = troubles.memory(options.resident ? options.resident() : resident_bytes())) tell(*trouble);
    state.trouble = troubles.shown();
  }

  Options options;
  Stopwatch watch;
  Console console;
  double started;
  std::mutex mutex;         // all below but `status`
  std::mutex status_mutex;  // held while the status is asked for, so that set_status({}) waits for it
  std::function<LiveStatus()> status;
  std::optional<RunFiles> files;
  std::vector<std::pair<std::int64_t, JsonRow>> early;  // said before the run had a folder
  std::vector<std::pair<std::int64_t, JsonRow>> late_rows;  // of troubles, not written yet
  History history;
  RunStart run;
  LiveState state;
  RunWatch troubles;
  Pace pace;
  bool running = false;
  bool asked = false;  // the last tick had a status: the line shows what is held now, not the peak of the last step
  std::optional<double> drawn_at, plain_at, speed_at;
  std::string plain_progress;
  std::int64_t clips = 0;  // of this process
  double waiting = 0, training = 0;  // seconds
  double recent_waiting = 0, recent_seconds = 0;
  int failure_lines = 0;
};

Reporter::Reporter(Options options) : impl_(std::make_unique<Impl>(std::move(options))) {
  impl_->status = impl_->options.status;
  log::set_console([console = &impl_->console](log::Level level, std::string_view line) {
    const char* prefix = level == log::Level::error ? "error: " : level == log::Level::warning ? "warning: " : "";
    console->print_error(fmt::format("{}{}", prefix, line));
  });
}

Reporter::~Reporter() { log::set_console({}); }

Console& Reporter::console() { return impl_->console; }

void Reporter::set_status(std::function<LiveStatus()> status) {
  const std::lock_guard lock(impl_->status_mutex);
  impl_->status = std::move(status);
}

void Reporter::progress(std::string_view what, double fraction) {
  auto& self = *impl_;
  const std::lock_guard lock(self.mutex);
  const bool done = fraction >= 1;
  const std::string text(what);
  if (self.console.live()) {
    const double time = self.now();
    if (!done && self.drawn_at && time - *self.drawn_at < self.options.live_seconds) return;
    self.drawn_at = time;
    self.state.doing = done ? "" : progress_text(text, fraction, 60);
    if (self.running) self.console.show(live_text(self.state, self.console.width() - 1));
    else if (done) self.console.clear();
    else self.console.show(progress_text(text, fraction, self.console.width() - 1));
    return;
  }
  if (self.running) self.state.doing = done ? "" : progress_text(text, fraction, 60);
  // A line when the work begins (in a run that would be one for each evaluation: only if it takes a while), every now and then,
  // and when work that took a while is done.
  const bool begins = self.plain_progress != text;
  const bool late = !self.plain_at || self.now() - *self.plain_at >= self.options.plain_seconds;
  const bool quiet = begins && self.running;
  if (quiet) self.plain_at = self.now();
  if (!quiet && (begins ? !done : late)) {
    self.plain_at = self.now();
    self.console.print(progress_text(text, fraction, 200));
  }
  self.plain_progress = done ? "" : text;
}

void Reporter::run_started(const RunStart& run) {
  auto& self = *impl_;
  const std::lock_guard lock(self.mutex);
  self.run = run;
  self.files.emplace(
      run.dir, RunFiles::Options{run.resumed_step, self.options.tensorboard}, [&](std::string_view row) { self.history.row(row); },
      [&](std::string_view row) { self.history.failure_row(row); });
  self.state.step = run.resumed_step.value_or(0);
  self.state.total_steps = run.total_steps;
  self.state.epochs = run.epochs;
  self.state.budget = run.budget;
  self.troubles = RunWatch(run.budget);
  self.running = true;
  self.plain_at = self.now();

  for (const auto& [step, row] : self.early) self.files->metrics.append(step, row);
  self.early.clear();
  JsonRow facts;
  for (const auto& [name, text] : run.facts) facts.add(name, text);
  self.append(self.state.step, JsonRow().add("kind", "start").add("name", run.name).add("facts", facts).add("time", JsonRow().add("at", utc_now())));
  if (self.files->events && !run.pipeline.empty()) self.files->events->text("pipeline", self.state.step, fmt::format("```toml\n{}\n```", run.pipeline));

  TextTable table({TextTable::Align::left, TextTable::Align::left});
  for (const auto& [name, text] : run.facts) table.row({name, text});
  self.console.print(fmt::format("run {}\n{}", run.name, table.text(2, 1 << 20)));
  if (run.resumed_step)
    self.console.print(fmt::format("going on from step {}{}", *run.resumed_step,
                                   self.files->dropped > 0 ? fmt::format(" ({} of later steps taken out of the logs)", counted(static_cast<std::uint64_t>(self.files->dropped), "row")) : ""));
}

void Reporter::step(const StepReport& report) {
  auto& self = *impl_;
  const std::lock_guard lock(self.mutex);
  const double seconds = report.seconds_waiting_for_data + report.seconds_computing;
  JsonRow row;
  row.add("kind", "step").add("epoch", report.epoch).add("loss", report.loss).add("lr", report.lr).add("clips", report.clips);
  if (!report.scalars.empty()) row.add("scalars", numbers_row(report.scalars));
  row.add("time", JsonRow().add("at", utc_now()).add("waiting", report.seconds_waiting_for_data).add("computing", report.seconds_computing));
  row.add("memory", memory_row(report.accounts));
  self.append(report.step, row);

  self.history.step(report.step, report.epoch, report.loss, report.clips, seconds);
  self.history.peak(report.accounts);
  self.pace.step(report.clips, seconds);
  self.clips += report.clips;
  self.waiting += report.seconds_waiting_for_data;
  self.training += seconds;
  // Shares and the loss of the line follow the last dozen steps or so.
  constexpr double keep = 0.9;
  self.recent_waiting = keep * self.recent_waiting + report.seconds_waiting_for_data;
  self.recent_seconds = keep * self.recent_seconds + seconds;
  auto& state = self.state;
  state.loss = state.loss && std::isfinite(*state.loss) ? keep * *state.loss + (1 - keep) * report.loss : report.loss;
  state.step = report.step;
  state.epoch = report.epoch;
  state.clips_per_second = self.pace.clips_per_second();
  state.seconds_left = static_cast<double>(std::max<std::int64_t>(0, state.total_steps - report.step)) * self.pace.seconds_per_step();
  state.waiting_share = self.recent_seconds > 0 ? self.recent_waiting / self.recent_seconds : 0;
  if (!self.asked) state.accounts = report.accounts;
  state.doing.clear();
  for (const auto& trouble : self.troubles.step({report.loss, report.seconds_waiting_for_data, report.seconds_computing})) self.tell(trouble);
  self.look_at_memory();

  self.scalar("train/loss", report.step, report.loss);
  self.scalar("train/lr", report.step, report.lr);
  for (const auto& [name, value] : report.scalars) self.scalar("train/" + name, report.step, value);
  const double time = self.now();
  if (!self.speed_at || time - *self.speed_at >= seconds_of_speed) {
    self.speed_at = time;
    self.scalar("speed/clips_per_second", report.step, state.clips_per_second);
    self.scalar("speed/waiting_share", report.step, state.waiting_share);
    for (std::size_t i = 0; i < report.accounts.size(); ++i)
      if (report.accounts[i] > 0) self.scalar(fmt::format("memory_mib/{}", name_of(static_cast<Account>(i))), report.step, static_cast<double>(report.accounts[i]) / static_cast<double>(MiB));
    if (self.files && self.files->events) self.files->events->flush();
  }

  if (report.last_of_epoch && !self.history.epochs().empty()) {
    const auto& epoch = self.history.epochs().back();
    self.plain_at = time;
    self.console.print(fmt::format("epoch {}{}  step {}  mean loss {:.4g}  {} in {}", report.epoch + 1, self.run.epochs > 0 ? fmt::format("/{}", self.run.epochs) : "",
                                   report.step, epoch.loss, counted(static_cast<std::uint64_t>(epoch.clips), "clip"), format_duration(epoch.seconds)));
  } else if (time - self.plain_at.value_or(self.started) >= self.options.plain_seconds) {
    self.plain_line();
  }
  self.draw(report.last_of_epoch);
}

void Reporter::not_finite(std::int64_t batch, std::int64_t epoch, std::string_view what, std::string_view more) {
  auto& self = *impl_;
  const std::lock_guard lock(self.mutex);
  self.message(fmt::format("batch {} of epoch {}: the {} is not finite; no update{}{}", batch, epoch, what, more.empty() ? "" : "; ", more), "warning");
  if (auto trouble = self.troubles.not_finite(fmt::format("{} of batch {} of epoch {}", what, batch, epoch))) {
    if (!more.empty()) trouble->text += fmt::format("; {}", more);
    self.tell(*trouble);
  }
  self.state.trouble = self.troubles.shown();
  self.draw(true);
}

void Reporter::failed(std::int64_t step, std::int64_t epoch, const Failed& failed) {
  auto& self = *impl_;
  const std::lock_guard lock(self.mutex);
  if (!self.history.failure(failed.why, failed.where, failed.sample)) return;
  if (self.files)
    self.files->failures.append(step, JsonRow().add("kind", "failure").add("epoch", epoch).add("sample", failed.sample).add("where", failed.where).add("why", failed.why)
                                          .add("time", JsonRow().add("at", utc_now())));
  if (self.failure_lines++ < failures_shown) self.console.print_error(fmt::format("sample left out: {}: {}", failed.where, failed.why));
  else if (self.failure_lines == failures_shown + 1) self.console.print_error("more samples are left out; failures.jsonl lists each");
}

void Reporter::evaluation(const EvalReport& report) {
  auto& self = *impl_;
  const std::lock_guard lock(self.mutex);
  JsonRow row;
  row.add("kind", "eval").add("epoch", report.epoch).add("numbers", numbers_row(report.numbers)).add("clips", report.clips).add("best", report.best.has_value());
  row.add("time", JsonRow().add("at", utc_now()).add("seconds", report.seconds));
  self.append(report.step, row);
  self.history.evaluation(report.epoch, report.numbers);
  for (const auto& [name, value] : report.numbers) self.scalar("eval/" + name, report.step, value);
  if (self.files && self.files->events) {
    for (const auto& [name, table] : report.tables) self.files->events->text("eval/" + name, report.step, fmt::format("```\n{}\n```", table));
    self.files->events->flush();
  }
  self.state.doing.clear();
  self.plain_at = self.now();
  self.console.print(fmt::format("  evaluated {} in {}: {}{}", counted(static_cast<std::uint64_t>(report.clips), "clip"), format_duration(report.seconds), numbers_text(report.numbers),
                                 report.best ? "  (best so far)" : ""));
  self.draw(true);
}

void Reporter::checkpoint_saved(std::int64_t step, const std::filesystem::path& folder, std::uint64_t bytes, double seconds, bool best) {
  auto& self = *impl_;
  const std::lock_guard lock(self.mutex);
  self.append(step, JsonRow().add("kind", "checkpoint").add("folder", folder.string()).add("bytes", bytes).add("best", best)
                        .add("time", JsonRow().add("at", utc_now()).add("seconds", seconds)));
  self.draw(false);
}

void Reporter::plan_changed(const PlanReport& report) {
  auto& self = *impl_;
  const std::lock_guard lock(self.mutex);
  self.append(report.step, JsonRow().add("kind", "plan").add("microbatch", report.microbatch).add("chunk", report.chunk).add("computed_twice", report.computed_twice)
                               .add("time", JsonRow().add("at", utc_now())));
}

void Reporter::note(std::string_view text) {
  auto& self = *impl_;
  const std::lock_guard lock(self.mutex);
  self.message(text, "note");
  self.console.print(text);
}

void Reporter::warning(std::string_view text) {
  auto& self = *impl_;
  const std::lock_guard lock(self.mutex);
  self.message(text, "warning");
  self.console.print_error(fmt::format("warning: {}", text));
}

void Reporter::beyond_budget(std::string_view why) {
  note(why);
  const std::lock_guard lock(impl_->mutex);
  impl_->troubles = RunWatch();
}

void Reporter::image(std::string_view tag, std::int64_t step, std::string_view png, std::int64_t width, std::int64_t height) {
  auto& self = *impl_;
  const std::lock_guard lock(self.mutex);
  if (self.files && self.files->events) self.files->events->image(tag, step, png, width, height);
}

void Reporter::sync() {
  auto& self = *impl_;
  const std::lock_guard lock(self.mutex);
  if (self.files) self.files->sync();
}

void Reporter::tick() {
  auto& self = *impl_;
  std::optional<LiveStatus> status;
  {
    const std::lock_guard lock(self.status_mutex);
    if (self.status && !self.console.quiet()) status = self.status();
  }
  const std::lock_guard lock(self.mutex);
  self.asked = status.has_value();
  if (status) {
    self.state.accounts = status->accounts;
    self.state.in_flight = status->feed.in_flight;
    self.state.in_flight_limit = status->feed.in_flight_limit;
    self.state.leased = status->feed.leased;
    self.state.lease_cap = status->feed.cap;
    self.state.waiting_for = status->feed.waiting_for;
    const bool bytes = status->feed.waiting_for.starts_with("bytes for");
    self.troubles.waits_for(!status->feed.running.empty() ? status->feed.running.front().stage : bytes ? "bytes" : "");
  }
  self.look_at_memory();
  if (self.running && self.now() - self.plain_at.value_or(self.started) >= self.options.plain_seconds) self.plain_line();
  self.draw(false);
}

Summary Reporter::run_finished(const RunEnd& end) {
  auto& self = *impl_;
  const std::lock_guard lock(self.mutex);
  Summary summary;
  summary.outcome = end.outcome;
  summary.steps = self.state.step;
  summary.resumed_step = self.run.resumed_step;
  summary.clips = self.clips;
  summary.seconds = self.now() - self.started;
  summary.seconds_training = self.training;
  summary.seconds_waiting = self.waiting;
  summary.epochs = self.history.epochs();
  summary.best = end.best;
  summary.peak = self.history.peak();
  summary.peak_resident = end.peak_resident;
  summary.budget = self.run.budget;
  summary.failures = self.history.failures();
  if (self.files) {
    summary.places.emplace_back("metrics", self.files->metrics.file());
    if (self.files->events) summary.places.emplace_back("tensorboard --logdir", self.run.dir / "tensorboard");
    if (!summary.failures.empty()) summary.places.emplace_back("failures", self.files->failures.file());
  }
  summary.places.insert(summary.places.end(), end.places.begin(), end.places.end());

  JsonRow row;
  row.add("kind", "end").add("outcome", end.outcome);
  if (end.best) row.add("best", JsonRow().add("metric", end.best->metric).add("value", end.best->value).add("step", end.best->step));
  row.add("time", JsonRow().add("at", utc_now()).add("seconds", summary.seconds).add("waiting", summary.seconds_waiting));
  JsonRow memory = memory_row(summary.peak);
  if (end.peak_resident > 0) memory.add("resident", end.peak_resident);
  row.add("memory", memory);
  self.append(self.state.step, row);
  if (self.files) self.files->sync();

  self.running = false;
  self.console.clear();
  self.console.print_also_when_quiet(summary_text(summary, self.console.live() ? self.console.width() : 120));
  return summary;
}

}  // namespace sluice
