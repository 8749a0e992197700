// Comparison of evaluations.
#include "framework/train/best.hpp"

#include <algorithm>
#include <cmath>

#include <sluice/error.hpp>

#include "framework/base/strings.hpp"

namespace sluice {
namespace {

std::string without_sign(const std::string& metric) { return !metric.empty() && metric.front() == '-' ? metric.substr(1) : metric; }

}  // namespace

BestSoFar::BestSoFar(std::string metric, std::int64_t patience)
    : metric_(without_sign(metric)), lower_(metric.starts_with("-") || metric.find("loss") != std::string::npos), patience_(patience) {}

void BestSoFar::restore(std::optional<State> best, std::int64_t without_better) {
  best_ = best;
  without_better_ = without_better;
}

bool BestSoFar::offer(const std::vector<std::pair<std::string, double>>& numbers, std::int64_t step, std::int64_t epoch) {
  if (metric_.empty()) return false;
  const auto found = std::find_if(numbers.begin(), numbers.end(), [&](const auto& number) { return number.first == metric_; });
  if (found == numbers.end()) {
    std::vector<std::string> known;
    for (const auto& number : numbers) known.push_back(number.first);
    check_best_metric(metric_, known, {});
    return false;
  }
  const double value = found->second;
  const bool better = std::isfinite(value) && (!best_ || (lower_ ? value < best_->value : value > best_->value));
  if (better) best_ = State{value, step, epoch};
  without_better_ = better ? 0 : without_better_ + 1;
  return better;
}

void check_best_metric(const std::string& metric, const std::vector<std::string>& known, const std::string& where) {
  const std::string name = without_sign(metric);
  if (name.empty() || std::find(known.begin(), known.end(), name) != known.end()) return;
  throw Error(Code::configuration, "eval.best names " + in_quotes(name) + ", which no metric reports", "there are: " + join(known, ", "), where);
}

}  // namespace sluice
