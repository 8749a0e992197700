// Orders the problems of a pipeline file and makes one text of them.
#include "framework/config/problems.hpp"

#include <algorithm>
#include <tuple>

#include <fmt/format.h>

#include "framework/base/strings.hpp"

namespace sluice {
namespace {

constexpr std::size_t shown = 20;

std::string text_of(const std::vector<Problem>& problems) {
  const Problem& first = problems.front();
  std::string text = first.message;
  if (!first.hint.empty()) text += "\n  hint: " + first.hint;
  for (std::size_t i = 1; i < std::min(problems.size(), shown); ++i) {
    text += fmt::format("\n{}: {}", problems[i].place.text(), problems[i].message);
    if (!problems[i].hint.empty()) text += "\n  hint: " + problems[i].hint;
  }
  if (problems.size() > shown) text += fmt::format("\n... and {} more", with_commas(problems.size() - shown));
  return text;
}

// A plugin that may not be used is a plugin's error, unless the file is wrong as well.
Code code_of(const std::vector<Problem>& problems) {
  const auto same = [&](const Problem& problem) { return problem.code == problems.front().code; };
  return std::all_of(problems.begin(), problems.end(), same) ? problems.front().code : Code::configuration;
}

}  // namespace

PipelineError::PipelineError(std::vector<Problem> problems)
    : Error(code_of(problems), text_of(problems), {}, problems.front().place.text()), problems_(std::move(problems)) {}

void Problems::add(Place place, std::string message, std::string hint, Code code) {
  problems_.push_back({std::move(place), std::move(message), std::move(hint), code});
}

void Problems::throw_if_any() const {
  if (problems_.empty()) return;
  auto ordered = problems_;
  std::stable_sort(ordered.begin(), ordered.end(), [](const Problem& a, const Problem& b) {
    return std::tie(a.place.layer, a.place.line, a.place.column) < std::tie(b.place.layer, b.place.line, b.place.column);
  });
  throw PipelineError(std::move(ordered));
}

}  // namespace sluice
