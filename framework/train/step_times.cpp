// A file of its own beside needs-*: a pass that is weighed again must not forget how long steps took.
#include "framework/train/step_times.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "framework/base/bytes.hpp"
#include "framework/state/files.hpp"
#include "framework/state/hash.hpp"

namespace sluice {
namespace {

using Json = nlohmann::json;

constexpr double a_day = 24 * 60 * 60;  // seconds; no segment takes as long

std::filesystem::path file_of(const std::filesystem::path& folder, const std::string& key) { return folder / ("times-" + hash_of(key) + ".json"); }

Json to_json(const std::map<std::int64_t, double>& times) {
  Json json = Json::array();
  for (const auto& [microbatch, seconds] : times) json.push_back({microbatch, seconds});
  return json;
}

std::map<std::int64_t, double> from_json(const Json& json) {
  std::map<std::int64_t, double> times;
  for (const auto& item : json)
    if (const double seconds = item.at(1); seconds > 0) times[item.at(0).get<std::int64_t>()] = seconds;
  return times;
}

}  // namespace

StepTimes::StepTimes(std::filesystem::path folder, std::string key) : folder_(std::move(folder)), key_("3 " + std::move(key)) {
  if (folder_.empty()) return;
  try {
    const auto json = Json::parse(read_file(system_disk(), file_of(folder_, key_), MiB));
    if (json.at("key").get<std::string>() != key_) return;
    auto plain = from_json(json.at("plain"));
    again_ = from_json(json.at("again"));
    moved_ = from_json(json.at("moved"));
    auto segments = json.at("segments").get<std::map<std::string, double, std::less<>>>();
    if (std::all_of(segments.begin(), segments.end(), [](const auto& item) { return item.second > 0 && item.second < a_day; })) segments_ = std::move(segments);
    plain_ = std::move(plain);
  } catch (const std::exception&) {
  }
}

void StepTimes::add(std::int64_t microbatch, const SegmentPlan& segments, double seconds) {
  if (!segments.any()) plain_[microbatch] = seconds;
  else if (segments.twice.all && !segments.offload.any()) again_[microbatch] = seconds;
  else if (segments.offload.all) moved_[microbatch] = seconds;
}

void StepTimes::remember() const {
  if (folder_.empty() || plain_.empty()) return;
  try {
    make_folders(system_disk(), folder_);
    write_file(system_disk(), file_of(folder_, key_), Json{{"key", key_}, {"plain", to_json(plain_)}, {"again", to_json(again_)}, {"moved", to_json(moved_)}, {"segments", segments_}}.dump(1));
  } catch (const std::exception&) {
  }
}

std::optional<double> StepTimes::plain(std::int64_t microbatch) const {
  const auto above = plain_.lower_bound(microbatch);
  if (above == plain_.end()) return std::nullopt;
  if (above->first == microbatch) return above->second;
  if (above == plain_.begin()) return std::nullopt;
  const auto below = std::prev(above);
  const auto inverse = [](std::int64_t clips) { return 1 / static_cast<double>(clips); };
  const double share = (inverse(below->first) - inverse(microbatch)) / (inverse(below->first) - inverse(above->first));
  return below->second + share * (above->second - below->second);
}

double StepTimes::twice() const { return share_of(again_, usual_twice); }
double StepTimes::move() const { return share_of(moved_, usual_move); }

// The median over the microbatches that were measured both ways.
double StepTimes::share_of(const std::map<std::int64_t, double>& longer, double usual) const {
  std::vector<double> shares;
  for (const auto& [microbatch, seconds] : longer)
    if (const auto known = plain_.find(microbatch); known != plain_.end()) shares.push_back(std::max(0.0, seconds / known->second - 1));
  if (shares.empty()) return usual;
  std::sort(shares.begin(), shares.end());
  return shares[shares.size() / 2];
}

}  // namespace sluice
