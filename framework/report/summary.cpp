// Writes the table at the end of a run.
#include "framework/report/summary.hpp"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include "framework/base/bytes.hpp"
#include "framework/base/clock.hpp"
#include "framework/base/strings.hpp"
#include "framework/report/table.hpp"

namespace sluice {
namespace {

using Align = TextTable::Align;

constexpr int uncut = 1 << 20;  // columns: a path or a cause that is cut is of no use

std::string number_text(double value) { return fmt::format("{:.4g}", value); }
std::string share_text(double part, double whole) { return whole > 0 ? fmt::format("{:.0f} %", 100 * part / whole) : "?"; }

// The numbers of the evaluations, in the order in which they appeared.
std::vector<std::string> number_names(const std::vector<EpochRow>& epochs) {
  std::vector<std::string> names;
  for (const auto& epoch : epochs)
    for (const auto& [name, value] : epoch.numbers)
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  return names;
}

std::string epochs_text(const Summary& summary, int width) {
  constexpr std::size_t first = 3, last = 17;
  const auto names = number_names(summary.epochs);
  std::vector<Align> columns(5 + names.size(), Align::right);
  TextTable table(columns);
  std::vector<std::string> head = {"epoch", "step", "clips", "train loss", "time"};
  for (const auto& name : names) head.push_back(name == "loss" ? "val loss" : name);
  table.row(head);
  for (std::size_t i = 0; i < summary.epochs.size(); ++i) {
    if (summary.epochs.size() > first + last && i == first) {
      i = summary.epochs.size() - last;
      table.row({"..."});
    }
    const auto& epoch = summary.epochs[i];
    std::vector<std::string> row = {fmt::format("{}", epoch.epoch + 1), fmt::format("{}", epoch.last_step), with_commas(static_cast<std::uint64_t>(epoch.clips)),
                                    number_text(epoch.loss), format_duration(epoch.seconds)};
    for (const auto& name : names) {
      const auto found = std::find_if(epoch.numbers.begin(), epoch.numbers.end(), [&](const auto& number) { return number.first == name; });
      row.push_back(found == epoch.numbers.end() ? "" : number_text(found->second));
    }
    table.row(row);
  }
  return table.text(2, width);
}

std::string memory_text(const Summary& summary) {
  std::string text = summary.peak_resident > 0 ? format_bytes(summary.peak_resident) + " resident at the peak" : "";
  if (summary.peak_resident > 0 && summary.budget > 0)
    text += fmt::format(", {} of the budget of {}", share_text(static_cast<double>(summary.peak_resident), static_cast<double>(summary.budget)), format_bytes(summary.budget));
  else if (summary.budget > 0) text += fmt::format("budget {}", format_bytes(summary.budget));
  return text;
}

}  // namespace

std::string failures_text(const std::map<std::string, FailureCount>& failures) {
  std::vector<std::pair<std::string, FailureCount>> ordered(failures.begin(), failures.end());
  std::stable_sort(ordered.begin(), ordered.end(), [](const auto& a, const auto& b) { return a.second.count > b.second.count; });
  constexpr std::size_t shown = 20;
  TextTable table({Align::right, Align::left});
  for (std::size_t i = 0; i < std::min(shown, ordered.size()); ++i)
    table.row({fmt::format("{} x", ordered[i].second.count), fmt::format("{} (e.g. {})", ordered[i].first.substr(0, ordered[i].first.find('\n')), ordered[i].second.example)});
  auto text = table.text(2, uncut);
  if (ordered.size() > shown) text += fmt::format("  and {} causes more\n", ordered.size() - shown);
  return text;
}

std::string summary_text(const Summary& summary, int width) {
  const auto resumed = summary.resumed_step ? fmt::format(" (went on from {})", *summary.resumed_step) : std::string();
  std::string out = fmt::format("{}: {}{}, {} in {}", summary.outcome, counted(static_cast<std::uint64_t>(summary.steps), "step"), resumed,
                                counted(static_cast<std::uint64_t>(summary.clips), "clip"), format_duration(summary.seconds));
  if (summary.seconds_training > 0 && summary.clips > 0)
    out += fmt::format(" ({:.1f} clips/s in training, {} of it waiting for data)", static_cast<double>(summary.clips) / summary.seconds_training, share_text(summary.seconds_waiting, summary.seconds_training));
  out += '\n';
  if (!summary.epochs.empty()) out += epochs_text(summary, width);
  if (summary.best)
    out += fmt::format("best: {} {} at step {} (epoch {})\n", summary.best->metric, number_text(summary.best->value), summary.best->step, summary.best->epoch + 1);

  const auto memory = memory_text(summary);
  std::vector<std::pair<std::uint64_t, std::size_t>> accounts;
  for (std::size_t i = 0; i < summary.peak.size(); ++i)
    if (summary.peak[i] > 0) accounts.emplace_back(summary.peak[i], i);
  std::sort(accounts.begin(), accounts.end(), [](const auto& a, const auto& b) { return a.first != b.first ? a.first > b.first : a.second < b.second; });
  if (!memory.empty()) out += fmt::format("memory: {}{}\n", memory, accounts.empty() ? "" : "; each account at a peak of its own:");
  TextTable table({Align::left, Align::right});
  for (const auto& [bytes, account] : accounts) table.row({std::string(name_of(static_cast<Account>(account))), format_bytes(bytes)});
  out += table.text(2, width);

  if (!summary.failures.empty()) {
    const auto total = std::accumulate(summary.failures.begin(), summary.failures.end(), std::int64_t{0}, [](std::int64_t sum, const auto& cause) { return sum + cause.second.count; });
    out += fmt::format("failed: {}, listed in failures.jsonl\n", counted(static_cast<std::uint64_t>(total), "sample"));
    out += failures_text(summary.failures);
  }
  TextTable places({Align::left, Align::left});
  for (const auto& [name, path] : summary.places) places.row({name, path.string()});
  return out + places.text(0, uncut);
}

}  // namespace sluice
