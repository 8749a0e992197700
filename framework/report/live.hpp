// What the live line and the plain lines say while a run goes on: step, epoch, loss, rate, time left, memory, what it waits for.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "framework/memory/ledger.hpp"

namespace sluice {

using AccountBytes = std::array<std::uint64_t, static_cast<int>(Account::count_)>;  // by Account

struct LiveState {
  std::int64_t step = 0;
  std::int64_t total_steps = 0;
  std::int64_t epoch = 0;   // from 0
  std::int64_t epochs = 0;  // 0: the run is declared in steps
  std::optional<double> loss{};  // running mean of the last steps
  double clips_per_second = 0;  // 0: not known yet
  double seconds_left = -1;     // below 0: not known yet
  AccountBytes accounts{};
  std::uint64_t budget = 0;     // bytes of host_ram; 0: none
  std::int64_t in_flight = 0;   // samples
  std::int64_t in_flight_limit = 0;
  std::uint64_t leased = 0;     // bytes of them
  std::uint64_t lease_cap = 0;
  std::string waiting_for;      // empty: for nothing
  double waiting_share = 0;     // share of the last steps' time spent waiting for data
  std::string trouble;          // e.g. "! loss rises"; empty: none
  std::string doing;            // e.g. "evaluating 42 %"; takes the place of the time left and of what it waits for
};

// One line of at most `width` columns. Where it is narrow, what matters least goes first: small accounts, queue, epoch; step, loss and trouble stay.
[[nodiscard]] std::string live_text(const LiveState& state, int width);
// For a log file: step, epoch, loss, rate, time left, memory of budget, and what is waited for; accounts are in metrics.jsonl.
[[nodiscard]] std::string plain_text(const LiveState& state);
// "reading headers 41 %": work without steps.
[[nodiscard]] std::string progress_text(const std::string& what, double fraction, int width);

// Rate and time left from the last steps, so that a slow first step or a pause is forgotten.
class Pace {
 public:
  void step(std::int64_t clips, double seconds);
  [[nodiscard]] double clips_per_second() const;
  [[nodiscard]] double seconds_per_step() const;  // 0: not known
 private:
  static constexpr int window = 32;
  std::array<double, window> seconds_{};
  std::array<std::int64_t, window> clips_{};
  int count_ = 0;
  int next_ = 0;
};

}  // namespace sluice
