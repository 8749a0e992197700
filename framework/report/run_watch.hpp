// RunWatch: what of a run goes wrong while it goes on. A state machine over steps: each trouble is told once when it begins, and
// again only after it has ended.
//
//   RunWatch watch(budget);
//   for (const auto& trouble : watch.step({.loss = loss, .seconds_waiting = w, .seconds_computing = c})) say(trouble.text);
//   watch.memory(resident_bytes());
//   line += watch.shown();                      // "! loss rises"
//
// memory   resident bytes above 90 % of host_ram; ends below 85 %.
// budget   resident bytes above host_ram: something takes memory that it did not declare; ends below 95 %.
// loss     its exponential mean (over 50 steps) is above the best that it was by 20 % of that, by 2 % of what it fell, and by six
//          standard errors of the mean, for 50 steps in a row; ends when it is above by less than half of that. A loss counts for at
//          most four times the usual spread, so that one bad batch is none. The first 50 steps count for nothing.
// finite   a loss or gradient that is no number; ends after 50 steps whose numbers are.
// data     of the time of the last 50 steps the trainer waited more than half; ends below 35 %.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace sluice {

class RunWatch {
 public:
  enum class Kind { memory, budget, loss, finite, data, count_ };
  struct Trouble {
    Kind kind;
    std::string text;  // what is so, and what to do next
  };
  struct Step {
    double loss = 0;
    double seconds_waiting = 0;
    double seconds_computing = 0;
  };

  explicit RunWatch(std::uint64_t budget = 0) : budget_(budget) {}  // host_ram in bytes; 0: none

  // Those that begin with this step.
  [[nodiscard]] std::vector<Trouble> step(const Step& step);
  [[nodiscard]] std::optional<Trouble> memory(std::uint64_t resident);
  // A batch whose `what` ("loss", "gradient of batch 3") was no number, so that nothing was learnt from it.
  [[nodiscard]] std::optional<Trouble> not_finite(const std::string& what);
  // What the trainer was seen waiting for: the stage that has run longest, "bytes" where samples wait for memory, or nothing.
  void waits_for(const std::string& what);

  // The worst that lasts, for the live line: "! memory 93 %". Empty: all is well.
  [[nodiscard]] std::string shown() const;
  [[nodiscard]] bool lasts(Kind kind) const { return lasting_[static_cast<std::size_t>(kind)]; }

 private:
  static constexpr int window = 50;  // steps
  // True where `kind` begins.
  bool begins(Kind kind, bool begin, bool end);
  [[nodiscard]] bool loss_begins(double loss);
  [[nodiscard]] std::string slowest() const;

  std::uint64_t budget_;
  std::array<bool, static_cast<std::size_t>(Kind::count_)> lasting_{};
  std::uint64_t resident_ = 0;
  // Mean of the loss and of its distance from that: of the first window plain, from then on exponential.
  std::int64_t steps_ = 0;
  double mean_ = 0, spread_ = 0, first_ = 0, best_ = 0;
  int above_ = 0;     // steps in a row
  int finite_ = 0;    // the same
  std::array<Step, window> last_{};
  double waited_ = 0;  // share of the window
  std::map<std::string, double> waits_;  // how often, the last ones most
};

[[nodiscard]] const char* name_of(RunWatch::Kind kind);

}  // namespace sluice
