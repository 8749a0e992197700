// The children run one after the other: two at once would share the processor, and neither time would be true.
#include "framework/train/measured_switches.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "framework/base/bytes.hpp"
#include "framework/base/clock.hpp"
#include "framework/base/strings.hpp"

namespace sluice {
namespace {

const char* word_of(Learnt learnt) { return learnt == Learnt::same ? "same" : learnt == Learnt::rounding ? "rounding" : "changes"; }
const char* text_of(Learnt learnt) { return learnt == Learnt::same ? "the same, bit for bit" : learnt == Learnt::rounding ? "the same up to rounding" : "something else"; }

double seconds_a_clip(const MeasuredSwitch& row) { return row.found.seconds / static_cast<double>(row.what.batch); }

}  // namespace

std::vector<MeasuredSwitch> measure_switches(const Switches& switches, const TrainRequest& request, Housekeeping& housekeeping, Reporter& reporter,
                                             const std::function<void(const MeasuredSwitch&)>& done) {
  std::vector<MeasuredSwitch> rows;
  for (const auto& row : switches.rows) {
    const std::string what = row.keys.empty() ? "measuring the plan" : "measuring " + row.text;
    ChildOptions child;
    child.arguments = {"measure-plan"};
    const std::vector<std::string> set = switches.overrides(row);
    for (const auto* words : {&request.pipeline_words, &request.overrides, &set}) child.arguments.insert(child.arguments.end(), words->begin(), words->end());
    child.heartbeat = [&] {
      housekeeping.progress();
      reporter.progress(what, static_cast<double>(rows.size()) / static_cast<double>(switches.rows.size()));
    };
    rows.push_back({row, measure_in_child(child)});
    reporter.progress(what, 1);  // no live line where the row is printed
    if (done) done(rows.back());
  }
  return rows;
}

std::size_t add_times(const std::vector<MeasuredSwitch>& rows, StepTimes& times) {
  std::size_t added = 0;
  for (const auto& row : rows) {
    if (!row.what.plan || !row.found.fits || row.found.disturbed()) continue;
    times.add(row.what.plan->microbatch, row.what.plan->segments, row.found.seconds);
    if (!row.found.again.empty()) times.add_segments(row.found.again);
    ++added;
  }
  return added;
}

nlohmann::ordered_json to_json(const std::vector<MeasuredSwitch>& rows) {
  using Json = nlohmann::ordered_json;
  Json all = Json::array();
  for (const auto& row : rows) {
    Json json{{"switch", row.what.text}, {"keys", Json::object()}, {"result", word_of(row.what.learnt)}, {"fits", row.found.fits}};
    for (const auto& [key, value] : row.what.keys) json["keys"][key] = Json::parse(value);
    if (row.found.fits) {
      json["peak_resident"] = row.found.peak_resident;
      json["seconds_per_step"] = row.found.seconds;
      json["steps"] = row.found.steps;
      json["waited"] = row.found.waited;
      json["clips_per_step"] = row.what.batch;
    } else {
      json["why"] = row.found.why;
    }
    if (row.found.smallest > 0) json["smallest_host_ram"] = row.found.smallest;
    all.push_back(std::move(json));
  }
  return all;
}

SwitchTable::SwitchTable(const Switches& switches) : switches_(switches) {
  for (const auto& row : switches.rows) width_ = std::max(width_, row.text.size());
}

std::string SwitchTable::heading() const {
  std::vector<std::string> plan;
  for (const auto& [key, value] : switches_.plan) plan.push_back(key + " = " + (key == "budget.host_ram" ? "\"" + bytes_to_write(std::stoull(value)) + "\"" : value));
  return fmt::format("what each switch does here (measured: a few steps each, over zeros at the largest shapes; the plan is marked *)\n  as planned: {}\n  {:<{}}  {:>9}  {:>7}  {:>8}  {:>7}  {:>13}  {}\n",
                     join(plan, ", "), "", width_, "memory", "of plan", "a step", "a clip", "host_ram from", "what is learnt");
}

std::string SwitchTable::line(const MeasuredSwitch& row) {
  const bool planned = row.what.keys.empty();
  if (planned) first_ = row;
  disturbed_ = disturbed_ || row.found.disturbed();
  waited_ = std::max(waited_, row.found.waited);
  const std::string from = row.found.smallest > 0 ? bytes_to_write(row.found.smallest) : "-";
  const std::string front = fmt::format("{} {:<{}}", planned ? "*" : " ", row.what.text, width_);
  if (!row.found.fits && row.found.smallest > 0) return fmt::format("{}  {:<37}  {:>13}  {}\n", front, "does not fit", from, text_of(row.what.learnt));
  if (!row.found.fits) return fmt::format("{}  not measured: {}\n", front, row.found.why);
  std::string of_memory = "-", of_time = "-";
  if (first_ && first_->found.fits) {
    of_memory = fmt::format("{:.2f}", static_cast<double>(row.found.peak_resident) / static_cast<double>(first_->found.peak_resident));
    of_time = fmt::format("{:.2f}", seconds_a_clip(row) / seconds_a_clip(*first_));
  }
  return fmt::format("{}  {:>9}  {:>7}  {:>8}  {:>7}  {:>13}  {}\n", front, format_bytes(row.found.peak_resident), of_memory, format_duration(row.found.seconds) + (row.found.disturbed() ? "?" : ""), of_time, from,
                     planned ? "" : text_of(row.what.learnt));
}

std::string SwitchTable::footing() const {
  std::string text = "  memory: resident peak of the process without the samples ahead; a clip: time of a clip as a share of the plan's; host_ram from: the least budget that takes it\n";
  for (const auto& line : switches_.left_out) text += "  left out: " + line + "\n";
  if (disturbed_) text += fmt::format("  ?: other programs were busy, and threads waited for a processor for up to {:.0f} % of the time: too long, measure again when they are done\n", 100 * waited_);
  return text;
}

}  // namespace sluice
