// Gathers epochs, failures and peaks.
#include "framework/report/history.hpp"

#include <algorithm>
#include <cstdlib>

#include <nlohmann/json.hpp>

namespace sluice {
namespace {

// A number, or one of the texts that stand for what JSON has no number for.
double real(const nlohmann::ordered_json& value) {
  return value.is_string() ? std::strtod(value.get_ref<const std::string&>().c_str(), nullptr) : value.is_number() ? value.get<double>() : 0.0;
}

}  // namespace

EpochRow& History::epoch_row(std::int64_t epoch) {
  if (epochs_.empty() || epochs_.back().epoch != epoch) {
    epochs_.emplace_back().epoch = epoch;
    steps_.push_back(0);
  }
  return epochs_.back();
}

void History::step(std::int64_t step, std::int64_t epoch, double loss, std::int64_t clips, double seconds) {
  auto& row = epoch_row(epoch);
  const auto count = static_cast<double>(++steps_.back());
  row.loss += (loss - row.loss) / count;
  row.clips += clips;
  row.seconds += seconds;
  row.last_step = last_step_ = step;
}

void History::evaluation(std::int64_t epoch, const std::vector<std::pair<std::string, double>>& numbers) { epoch_row(epoch).numbers = numbers; }

bool History::failure(const std::string& why, const std::string& where, std::int64_t sample) {
  if (sample < 0 && !of_no_sample_.emplace(where, why).second) return false;
  auto& cause = failures_[why];
  if (cause.count++ == 0) cause.example = where;
  return true;
}

void History::peak(const AccountBytes& accounts) {
  for (std::size_t i = 0; i < accounts.size(); ++i) peak_[i] = std::max(peak_[i], accounts[i]);
}

void History::row(std::string_view json) {
  const auto row = nlohmann::ordered_json::parse(json, nullptr, false);
  if (!row.is_object()) return;
  const auto kind = row.value("kind", std::string());
  const auto epoch = row.value("epoch", std::int64_t{0});
  if (kind == "step") {
    const auto time = row.value("time", nlohmann::ordered_json::object());
    const double seconds = time.is_object() ? time.value("waiting", 0.0) + time.value("computing", 0.0) : 0.0;
    step(row.value("step", std::int64_t{0}), epoch, real(row.value("loss", nlohmann::ordered_json(0.0))), row.value("clips", std::int64_t{0}), seconds);
  } else if (kind == "eval" && row.contains("numbers") && row["numbers"].is_object()) {
    std::vector<std::pair<std::string, double>> numbers;
    for (const auto& [name, value] : row["numbers"].items()) numbers.emplace_back(name, real(value));
    evaluation(epoch, numbers);
  }
}

void History::failure_row(std::string_view json) {
  const auto row = nlohmann::json::parse(json, nullptr, false);
  if (row.is_object()) failure(row.value("why", std::string()), row.value("where", std::string()), row.value("sample", std::int64_t{0}));
}

}  // namespace sluice
