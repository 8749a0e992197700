// What was measured, as a file in the cache. What cannot be read, or was changed by hand, is measured anew.
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "framework/base/bytes.hpp"
#include "framework/state/files.hpp"
#include "framework/state/hash.hpp"
#include "framework/train/needs.hpp"

namespace sluice {
namespace {

using Json = nlohmann::json;

std::filesystem::path file_of(const std::filesystem::path& folder, const std::string& key) { return folder / ("needs-" + hash_of(key) + ".json"); }

Json to_json(const PassTrace& trace) {
  Json segments = Json::array();
  for (const auto& s : trace.segments)
    segments.push_back({{"name", s.name}, {"forward", {s.forward_start, s.forward_peak, s.forward_end}}, {"moved", s.moved}, {"again", {s.again_start, s.again_peak, s.again_end}},
                        {"backward_peak", s.backward_peak}, {"output", s.output}, {"saves_output", s.saves_output}});
  return {{"clips", trace.clips}, {"segments", segments}, {"rest_peak", trace.rest_peak}, {"peak", trace.peak}};
}

Json to_json(const Segments& segments) { return {{"all", segments.all}, {"names", segments.names}}; }
Segments segments_from(const Json& json) { return {json.at("all"), json.at("names").get<std::set<std::string, std::less<>>>()}; }

// Of all but itself: what was changed by hand or damaged is measured anew.
std::string check_of(Json json) {
  json.erase("check");
  return hash_of(json.dump());
}

PassTrace trace_from(const Json& json) {
  PassTrace trace;
  trace.clips = json.at("clips");
  trace.rest_peak = json.at("rest_peak");
  trace.peak = json.at("peak");
  for (const auto& item : json.at("segments")) {
    SegmentTrace s;
    s.name = item.at("name");
    s.forward_start = item.at("forward").at(0);
    s.forward_peak = item.at("forward").at(1);
    s.forward_end = item.at("forward").at(2);
    s.moved = item.at("moved");
    s.again_start = item.at("again").at(0);
    s.again_peak = item.at("again").at(1);
    s.again_end = item.at("again").at(2);
    s.backward_peak = item.at("backward_peak");
    s.output = item.at("output");
    s.saves_output = item.at("saves_output");
    trace.segments.push_back(std::move(s));
  }
  return trace;
}

}  // namespace

bool NeedsMeter::recall() {
  if (folder_.empty()) return false;
  try {
    const auto json = Json::parse(read_file(system_disk(), file_of(folder_, key_), 16 * MiB));
    if (json.at("key").get<std::string>() != key_ || json.at("check").get<std::string>() != check_of(json)) return false;
    TensorNeeds fixed;
    fixed.base = json.at("base");
    fixed.start = json.at("start");
    fixed.parameters = json.at("parameters");
    fixed.gradients = json.at("gradients");
    fixed.optimizer = json.at("optimizer");
    const auto trainings = [&](const char* name) {
      std::vector<Training> all;
      for (const auto& item : json.at(name))
        all.push_back({item.at("microbatch"), {segments_from(item.at("checkpoint")), segments_from(item.at("offload"))}, item.at("bytes"), item.at("stored")});
      return all;
    };
    std::vector<Training> trained = trainings("training"), failed = trainings("failed");
    std::vector<Evaluated> evaluated;
    for (const auto& item : json.at("evaluation")) evaluated.push_back({item.at("clips"), item.at("bytes")});
    const auto traces_of = [&](const char* name) {
      std::map<std::int64_t, PassTrace> all;
      for (const auto& item : json.at(name)) {
        PassTrace trace = trace_from(item);
        all[trace.clips] = std::move(trace);
      }
      return all;
    };
    auto traces = traces_of("traces"), offload_traces = traces_of("offload_traces");
    std::map<std::int64_t, std::uint64_t> foreseen;
    for (const auto& item : json.at("foreseen")) foreseen.emplace(item.at(0), item.at(1));
    std::map<std::pair<std::int64_t, std::int64_t>, std::uint64_t> settled;
    for (const auto& item : json.at("settled")) settled.emplace(std::pair(item.at(0).get<std::int64_t>(), item.at(1).get<std::int64_t>()), item.at(2));
    const int passes = json.at("passes");
    const double clips = json.at("clips");
    std::vector<KernelCall> kernels;
    for (const auto& text : json.at("kernels")) kernels.push_back(KernelCall::from_text(text.get<std::string>()));
    kernels_ = std::move(kernels);
    routed_ = json.at("routed").get<std::vector<std::string>>();
    segments_ = json.at("segments").get<std::vector<std::string>>();
    beside_pass_ = {json.at("draws"), json.at("norms"), json.at("moves")};
    fixed_ = fixed;
    trained_ = std::move(trained);
    failed_ = std::move(failed);
    evaluated_ = std::move(evaluated);
    traces_ = std::move(traces);
    offload_traces_ = std::move(offload_traces);
    foreseen_ = std::move(foreseen);
    settled_ = std::move(settled);
    if (request_.after_probing) passes_ = passes, clips_ = clips;
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

bool NeedsMeter::remember() const {
  if (folder_.empty() || passes_ == 0) return false;
  Json json{{"key", key_},
            {"base", fixed_.base},
            {"start", fixed_.start},
            {"parameters", fixed_.parameters},
            {"gradients", fixed_.gradients},
            {"optimizer", fixed_.optimizer},
            {"passes", passes_},
            {"clips", clips_},
            {"foreseen", Json::array()},
            {"settled", Json::array()},
            {"segments", segments_},
            {"kernels", Json::array()},
            {"routed", routed_},
            {"draws", beside_pass_.draws},
            {"norms", beside_pass_.norm},
            {"moves", beside_pass_.statistics},
            {"training", Json::array()},
            {"failed", Json::array()},
            {"evaluation", Json::array()},
            {"traces", Json::array()},
            {"offload_traces", Json::array()}};
  for (const auto& [name, all] : {std::pair("training", &trained_), std::pair("failed", &failed_)})
    for (const auto& item : *all)
      json[name].push_back({{"microbatch", item.microbatch}, {"checkpoint", to_json(item.segments.twice)}, {"offload", to_json(item.segments.offload)}, {"bytes", item.bytes}, {"stored", item.stored}});
  for (const auto& call : kernels_) json["kernels"].push_back(call.text());
  for (const auto& item : evaluated_) json["evaluation"].push_back({{"clips", item.clips}, {"bytes", item.bytes}});
  for (const auto& [clips, bytes] : foreseen_) json["foreseen"].push_back({clips, bytes});
  for (const auto& [plan, bytes] : settled_) json["settled"].push_back({plan.first, plan.second, bytes});
  for (const auto& [clips, trace] : traces_) json["traces"].push_back(to_json(trace));
  for (const auto& [clips, trace] : offload_traces_) json["offload_traces"].push_back(to_json(trace));
  json["check"] = check_of(json);
  try {
    make_folders(system_disk(), folder_);
    write_file(system_disk(), file_of(folder_, key_), json.dump(1));
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

}  // namespace sluice
