// The four rules.
#include "framework/report/run_watch.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "framework/base/bytes.hpp"

namespace sluice {
namespace {

constexpr double full = 0.90, full_no_more = 0.85;  // of the budget
constexpr double within = 0.95;
constexpr double starved = 0.50, starved_no_more = 0.35;  // of the time
constexpr double rise = 0.20;          // of the best mean
constexpr double rise_of_fall = 0.02;  // of what the loss fell: near zero a fifth is noise
constexpr double errors = 6;           // standard errors of the mean: the best of many means is below what the loss really was
constexpr double outlier = 4;          // times the spread
constexpr double least_spread = 0.01;  // of the mean: a loss that never moved may begin to
constexpr double forget = 0.995;       // of what was waited for, at each look

}  // namespace

const char* name_of(RunWatch::Kind kind) {
  switch (kind) {
    case RunWatch::Kind::memory: return "memory";
    case RunWatch::Kind::budget: return "budget";
    case RunWatch::Kind::loss: return "loss";
    case RunWatch::Kind::finite: return "finite";
    default: return "data";
  }
}

bool RunWatch::begins(Kind kind, bool begin, bool end) {
  bool& lasting = lasting_[static_cast<std::size_t>(kind)];
  if (lasting) {
    lasting = !end;
    return false;
  }
  lasting = begin;
  return begin;
}

bool RunWatch::loss_begins(double loss) {
  ++steps_;
  if (steps_ <= window) {
    if (steps_ > 1) spread_ += (std::abs(loss - mean_) - spread_) / static_cast<double>(steps_ - 1);
    mean_ += (loss - mean_) / static_cast<double>(steps_);
    first_ = best_ = mean_;
    return false;
  }
  const double usual = std::max(spread_, least_spread * std::abs(mean_));
  const double away = std::clamp(loss - mean_, -outlier * usual, outlier * usual);
  spread_ = usual + (std::abs(away) - usual) / window;
  mean_ += away / window;
  best_ = std::min(best_, mean_);
  const double margin = std::max({rise * std::abs(best_), rise_of_fall * (first_ - best_), errors * spread_ / std::sqrt(2.0 * window)});
  above_ = mean_ > best_ + margin ? above_ + 1 : 0;
  return begins(Kind::loss, above_ >= window, mean_ < best_ + margin / 2);
}

std::vector<RunWatch::Trouble> RunWatch::step(const Step& step) {
  std::vector<Trouble> found;
  if (!std::isfinite(step.loss)) {
    if (auto trouble = not_finite("loss")) found.push_back(std::move(*trouble));
    return found;
  }
  begins(Kind::finite, false, ++finite_ >= window);
  if (loss_begins(step.loss))
    found.push_back({Kind::loss, fmt::format("the loss rises: its mean is {:.4g} and was {:.4g}. Next: lower optimizer.lr, or set optimizer.clip_norm, and go on from the best checkpoint "
                                             "(model.weights); if it began with new data, sluice data show", mean_, best_)});
  last_[static_cast<std::size_t>(steps_ % window)] = step;
  if (steps_ >= window) {
    double waiting = 0, all = 0;
    for (const auto& one : last_) waiting += one.seconds_waiting, all += one.seconds_waiting + one.seconds_computing;
    waited_ = all > 0 ? waiting / all : 0;
    if (begins(Kind::data, waited_ > starved, waited_ < starved_no_more)) {
      const std::string stage = slowest();
      const std::string text = fmt::format("the trainer waits for data {:.0f} % of the time", waited_ * 100);
      if (stage == "bytes") found.push_back({Kind::data, text + ": samples wait for memory. Next: raise budget.host_ram"});
      else found.push_back({Kind::data, text + (stage.empty() ? "" : "; the slowest stage is " + stage) +
                                            ". Next: raise budget.workers, or let the decoder scale (short_side); sluice data bench FILE measures the loading alone"});
    }
  }
  return found;
}

std::optional<RunWatch::Trouble> RunWatch::memory(std::uint64_t resident) {
  if (budget_ == 0) return std::nullopt;
  resident_ = resident;
  const double share = static_cast<double>(resident) / static_cast<double>(budget_);
  const bool is_full = begins(Kind::memory, share > full, share < full_no_more);
  if (begins(Kind::budget, share > 1, share < within))
    return Trouble{Kind::budget, fmt::format("{} are in use, more than the budget of {}: a plugin or a library takes memory that it did not declare. Next: raise budget.host_ram by what it takes, and "
                                             "find it by leaving out stages; of those that come with sluice, please report it", format_bytes(resident), format_bytes(budget_))};
  if (!is_full) return std::nullopt;
  return Trouble{Kind::memory, fmt::format("{} of the budget of {} are in use ({:.0f} %), which is what a budget is for. Next, if it is to be less: raise budget.host_ram, or lower budget.workers; "
                                           "sluice plan FILE says what another budget would change", format_bytes(resident), format_bytes(budget_), share * 100)};
}

std::optional<RunWatch::Trouble> RunWatch::not_finite(const std::string& what) {
  finite_ = 0;
  if (!begins(Kind::finite, true, false)) return std::nullopt;
  return Trouble{Kind::finite, fmt::format("the {} is not finite: such a batch updates nothing. Next, if it comes again: lower optimizer.lr, set optimizer.clip_norm = 1, or look at the data with sluice data show", what)};
}

void RunWatch::waits_for(const std::string& what) {
  for (auto& [name, count] : waits_) count *= forget;
  if (!what.empty()) waits_[what] += 1;
}

std::string RunWatch::slowest() const {
  const auto most = std::max_element(waits_.begin(), waits_.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == waits_.end() ? std::string() : most->first;
}

std::string RunWatch::shown() const {
  if (lasts(Kind::finite)) return "! not finite";
  if (lasts(Kind::loss)) return "! loss rises";
  if (lasts(Kind::memory)) return fmt::format("! memory {:.0f} %", 100.0 * static_cast<double>(resident_) / static_cast<double>(budget_));
  return lasts(Kind::data) ? "! waits for data" : "";
}

}  // namespace sluice
