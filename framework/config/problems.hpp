// Everything that is wrong with a pipeline file, collected, so that a person sees all of it at once.
#pragma once

#include <string>
#include <vector>

#include <sluice/error.hpp>

#include "framework/config/value.hpp"

namespace sluice {

struct Problem {
  Place place;
  std::string message;
  std::string hint;
  Code code = Code::configuration;
};

// what() lists the first 20 problems, each as "file:line:column: message" and a line with its hint.
class PipelineError : public Error {
 public:
  explicit PipelineError(std::vector<Problem> problems);  // at least one
  [[nodiscard]] const std::vector<Problem>& problems() const noexcept { return problems_; }

 private:
  std::vector<Problem> problems_;
};

class Problems {
 public:
  void add(Place place, std::string message, std::string hint = {}, Code code = Code::configuration);
  [[nodiscard]] bool empty() const { return problems_.empty(); }
  // Above this, hints are not worth their time: a hostile file may have a million unknown keys.
  [[nodiscard]] bool many() const { return problems_.size() >= 20; }
  void throw_if_any() const;  // PipelineError, in the order of files and lines

 private:
  std::vector<Problem> problems_;
};

}  // namespace sluice
