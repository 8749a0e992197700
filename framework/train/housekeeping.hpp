// The one thread beside a run that has time: signals, the watchdog, the live line.
//
//   Housekeeping housekeeping({.watchdog_seconds = 300, .tick = [&] { reporter.tick(); }});
//   housekeeping.on_stop([&] { feed.stop(); });
//   while (!housekeeping.stop_requested()) { ...; housekeeping.progress(); }
//   return housekeeping.exit_code();
//
// The first SIGINT or SIGTERM asks the run to save and leave; another, a second later or more, ends the process at once.
#pragma once

#include <atomic>
#include <csignal>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace sluice {

// Make it before any other thread, on the main thread: threads made later inherit that they leave the signals alone.
class Housekeeping {
 public:
  struct Options {
    double watchdog_seconds = 0;  // without progress() until the process ends with code 6; 0: never
    double tick_seconds = 0.2;
    std::function<void()> tick{};
    // What the process's end is, so that a test can look at it; null: std::_Exit.
    std::function<void(int)> end{};
  };
  explicit Housekeeping(Options options);
  ~Housekeeping();  // the signals are as before
  Housekeeping(const Housekeeping&) = delete;
  Housekeeping& operator=(const Housekeeping&) = delete;

  [[nodiscard]] bool stop_requested() const { return signal_.load(std::memory_order_relaxed) != 0; }
  [[nodiscard]] int signal() const { return signal_.load(); }
  [[nodiscard]] int exit_code() const { return stop_requested() ? 128 + signal() : 0; }
  // "SIGTERM"
  [[nodiscard]] std::string signal_name() const;

  // Called from the housekeeping thread on the first signal, or at once if it came already; empty before what it calls is destroyed.
  void on_stop(std::function<void()> callback);
  // Ends the process at once, for work that leaves nothing to save.
  void on_stop_end_at_once();
  // What the watchdog looks at: a count that moves while work goes on elsewhere, and words for when it does not. Empty: the trainer alone.
  void watch(std::function<std::uint64_t()> pulse, std::function<std::string()> waiting_for);
  void progress() { progressed_.store(now(), std::memory_order_relaxed); }

 private:
  static double now();
  void run();
  void received(int signal);
  void check_watchdog();

  Options options_;
  sigset_t signals_;
  sigset_t before_;
  std::mutex mutex_;  // of the callbacks
  std::function<void()> on_stop_;
  std::function<std::uint64_t()> pulse_;
  std::function<std::string()> waiting_for_;
  std::uint64_t last_pulse_ = 0;
  std::atomic<int> signal_{0};
  double stopped_at_ = 0;  // of the housekeeping thread
  std::atomic<double> progressed_;
  std::atomic<bool> ending_{false};
  std::thread thread_;
};

}  // namespace sluice
