// Time that only moves forward, and durations as people read them. Deadlines and rates never use the wall clock.
#pragma once

#include <chrono>
#include <string>

namespace sluice {

using Clock = std::chrono::steady_clock;

class Stopwatch {
 public:
  [[nodiscard]] double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  void restart() { start_ = Clock::now(); }

 private:
  Clock::time_point start_ = Clock::now();
};

// "0.4 ms", "320 ms", "3.2 s", "4 min 05 s", "13 h 20 min", "3 d 04 h"; "?" for what is negative or no number.
[[nodiscard]] std::string format_duration(double seconds);

// The wall clock for logs and folder names, in UTC: "2025-03-09T14:02:11Z".
[[nodiscard]] std::string utc_now();

}  // namespace sluice
