// Signals are blocked everywhere and waited for here, so nothing runs in a signal handler.
#include "framework/train/housekeeping.hpp"

#include <pthread.h>
#include <time.h>

#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdlib>

#include <sluice/error.hpp>

#include "framework/base/clock.hpp"
#include "framework/base/log.hpp"

namespace sluice {

double Housekeeping::now() { return std::chrono::duration<double>(Clock::now().time_since_epoch()).count(); }

Housekeeping::Housekeeping(Options options) : options_(std::move(options)), progressed_(now()) {
  if (!options_.end) options_.end = [](int code) { std::_Exit(code); };
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGINT);
  sigaddset(&signals_, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals_, &before_);
  thread_ = std::thread([this] { run(); });
}

Housekeeping::~Housekeeping() {
  ending_ = true;
  thread_.join();
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

std::string Housekeeping::signal_name() const {
  const int number = signal();
  return number == SIGINT ? "SIGINT" : number == SIGTERM ? "SIGTERM" : "";
}

void Housekeeping::on_stop(std::function<void()> callback) {
  const std::lock_guard lock(mutex_);
  on_stop_ = std::move(callback);
  if (on_stop_ && stop_requested()) on_stop_();
}

void Housekeeping::on_stop_end_at_once() {
  on_stop([this] { options_.end(exit_code()); });
}

void Housekeeping::watch(std::function<std::uint64_t()> pulse, std::function<std::string()> waiting_for) {
  const std::lock_guard lock(mutex_);
  pulse_ = std::move(pulse);
  waiting_for_ = std::move(waiting_for);
}

void Housekeeping::received(int signal) {
  // Whoever signals a process and then its group (timeout, shells) means it once.
  constexpr double same_seconds = 1;
  if (stop_requested() && now() - stopped_at_ < same_seconds) return;
  if (stop_requested()) {
    log::warning("ended at once; the last checkpoint is what there is");
    options_.end(128 + signal);
    return;
  }
  stopped_at_ = now();
  signal_.store(signal);
  log::info("{}: leaving; once more ends at once", signal_name());
  const std::lock_guard lock(mutex_);
  if (on_stop_) on_stop_();
}

void Housekeeping::check_watchdog() {
  std::string what;
  {
    const std::lock_guard lock(mutex_);
    if (const auto pulse = pulse_ ? pulse_() : 0; pulse != last_pulse_) {
      last_pulse_ = pulse;
      progress();
    }
    if (options_.watchdog_seconds <= 0 || now() - progressed_.load(std::memory_order_relaxed) < options_.watchdog_seconds) return;
    if (waiting_for_) what = waiting_for_();
  }
  const double idle = now() - progressed_.load(std::memory_order_relaxed);
  log::error("nothing moved for {}; waiting for {}\n  hint: the run goes on from its last checkpoint with --resume; run.watchdog sets the limit", format_duration(idle),
             what.empty() ? "the trainer" : what);
  options_.end(static_cast<int>(Code::watchdog));
  progress();
}

void Housekeeping::run() {
  const double tick = std::max(0.01, options_.tick_seconds);
  const timespec wait{static_cast<time_t>(tick), static_cast<long>((tick - std::floor(tick)) * 1e9)};
  double woke = now();
  while (!ending_) {
    const int signal = sigtimedwait(&signals_, nullptr, &wait);
    if (signal > 0) received(signal);
    if (ending_) return;
    // This thread slept long beyond its tick: the whole process was stopped, so nobody could make progress.
    const double since = now() - woke;
    if (since > tick + 2) progress();
    woke += since;
    check_watchdog();
    if (options_.tick) options_.tick();
  }
}

}  // namespace sluice
