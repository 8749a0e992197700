// History: what the summary needs of a run, gathered as it goes, and from the rows of the process before after a resume.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "framework/report/summary.hpp"

namespace sluice {

class History {
 public:
  void step(std::int64_t step, std::int64_t epoch, double loss, std::int64_t clips, double seconds);
  void evaluation(std::int64_t epoch, const std::vector<std::pair<std::string, double>>& numbers);
  // One that belongs to no sample (a file that the source cannot use) is met at every start and counts once: false when known.
  bool failure(const std::string& why, const std::string& where, std::int64_t sample);
  void peak(const AccountBytes& accounts);
  // Rows of metrics.jsonl and failures.jsonl, as the reporter writes them; others are passed over.
  void row(std::string_view json);
  void failure_row(std::string_view json);

  [[nodiscard]] const std::vector<EpochRow>& epochs() const { return epochs_; }  // loss is the mean
  [[nodiscard]] const std::map<std::string, FailureCount>& failures() const { return failures_; }
  [[nodiscard]] const AccountBytes& peak() const { return peak_; }
  [[nodiscard]] std::int64_t last_step() const { return last_step_; }

 private:
  EpochRow& epoch_row(std::int64_t epoch);
  std::vector<EpochRow> epochs_;
  std::vector<std::int64_t> steps_;  // of each epoch
  std::map<std::string, FailureCount> failures_;
  std::set<std::pair<std::string, std::string>> of_no_sample_;
  AccountBytes peak_{};
  std::int64_t last_step_ = 0;
};

}  // namespace sluice
