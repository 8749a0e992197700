// The best evaluation so far by one named number, and when to stop because no better one comes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace sluice {

class BestSoFar {
 public:
  // `metric`: "accuracy.top1"; empty: nothing is the best. Lower is better for names that hold "loss" or begin with '-'.
  // `patience`: evaluations without a better one until stop() says so; 0: never.
  BestSoFar(std::string metric, std::int64_t patience);

  // Whether this evaluation is the best one. Throws Error(Code::configuration) when it lacks the number.
  bool offer(const std::vector<std::pair<std::string, double>>& numbers, std::int64_t step, std::int64_t epoch);
  [[nodiscard]] bool stop() const { return patience_ > 0 && without_better_ >= patience_; }
  // The number's name without the sign.
  [[nodiscard]] const std::string& metric() const { return metric_; }

  struct State {
    double value = 0;
    std::int64_t step = 0;
    std::int64_t epoch = 0;
  };
  [[nodiscard]] const std::optional<State>& best() const { return best_; }
  [[nodiscard]] std::int64_t without_better() const { return without_better_; }
  void restore(std::optional<State> best, std::int64_t without_better);

 private:
  std::string metric_;
  bool lower_ = false;
  std::int64_t patience_;
  std::optional<State> best_;
  std::int64_t without_better_ = 0;
};

// Throws Error(Code::configuration), with what there is, unless `metric` names one of `known` (or is empty).
void check_best_metric(const std::string& metric, const std::vector<std::string>& known, const std::string& where);

}  // namespace sluice
