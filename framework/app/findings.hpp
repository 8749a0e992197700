// What `sluice doctor` says: one finding a line, with what to do next where something is wrong.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace sluice::app {

struct Finding {
  enum class Status { ok, warning, problem } status = Status::ok;
  std::string topic;  // "memory", "plan"...
  std::string text;
  std::string next{};  // what to do; empty where nothing is
  int code = 0;        // of a problem: the exit code with which a run would end
};

class Findings {
 public:
  void add(Finding finding) { all_.push_back(std::move(finding)); }
  void ok(std::string topic, std::string text) { all_.push_back({Finding::Status::ok, std::move(topic), std::move(text)}); }
  void warning(std::string topic, std::string text, std::string next) { all_.push_back({Finding::Status::warning, std::move(topic), std::move(text), std::move(next)}); }
  void problem(std::string topic, std::string text, std::string next, int code) { all_.push_back({Finding::Status::problem, std::move(topic), std::move(text), std::move(next), code}); }

  [[nodiscard]] const std::vector<Finding>& all() const { return all_; }
  [[nodiscard]] std::size_t count(Finding::Status status) const {
    std::size_t n = 0;
    for (const auto& finding : all_) n += finding.status == status ? 1 : 0;
    return n;
  }
  // That of the first problem; 0 where there is none.
  [[nodiscard]] int exit_code() const {
    for (const auto& finding : all_)
      if (finding.status == Finding::Status::problem) return finding.code;
    return 0;
  }

 private:
  std::vector<Finding> all_;
};

}  // namespace sluice::app
