// JSON in and out, and the comparison key by key.
#include "framework/train/run_state.hpp"

#include <algorithm>
#include <map>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <sluice/error.hpp>

#include "framework/base/strings.hpp"
#include "framework/config/tables.hpp"
#include "framework/config/toml.hpp"

namespace sluice {
namespace {

using Json = nlohmann::ordered_json;

// "run.seed" -> "7", "stage[0].p" -> "0.5".
void flatten(const Value& value, const std::string& name, std::map<std::string, std::string>& into) {
  if (const Table* table = as_table(value)) {
    for (const auto& member : *table) flatten(member.value, name.empty() ? member.key : name + "." + member.key, into);
  } else if (const List* list = as_list(value); list && !list->empty() && as_table(list->front())) {
    for (std::size_t i = 0; i < list->size(); ++i) flatten((*list)[i], fmt::format("{}[{}]", name, i), into);
  } else {
    into[name] = toml_text(value);
  }
}

std::map<std::string, std::string> keys_of(const std::string& canonical) {
  std::map<std::string, std::string> keys;
  flatten(Value{parse_toml(canonical, "state.json", 0), {}}, "", keys);
  return keys;
}

// Keys that no weight depends on, alone or with all that is below them.
bool changes_result(const std::string& key, bool has_schedule) {
  static const std::vector<std::string> harmless{"run.name",          "run.dir",           "run.max_failures",     "run.watchdog", "run.device", "run.precision",
                                                 "budget.host_ram",   "budget.workers",    "budget.device_memory", "budget.in_flight", "checkpoint.",
                                                 "eval.",             "metric[",           "plugins.",             "env.",         "plan.",
                                                 "batch.microbatch",  "budget.compute_threads"};  // these and run.precision: compared as what they became
  for (const auto& known : harmless)
    if (key == known || ((known.back() == '.' || known.back() == '[') && key.starts_with(known))) return false;
  // How long a run is matters to its schedule alone.
  if (key == "run.epochs" || key == "run.steps") return has_schedule;
  return true;
}

}  // namespace

std::string to_json(const RunState& state) {
  Json json = Json::object();  // operator[] on null that finds no memory leaves an object without its members, which its destructor reads
  json["format"] = 1;
  json["step"] = state.step;
  json["epoch"] = state.epoch;
  json["cursor"] = {{"phase", state.cursor.phase}, {"batch", state.cursor.batch}};
  json["seed"] = state.seed;
  json["failures"] = state.failures;
  json["evaluated_at"] = state.evaluated_at;
  json["plan"] = {{"microbatch", state.microbatch}, {"chunk", state.chunk}, {"compute_threads", state.compute_threads}, {"layout", state.layout}, {"device", state.device}, {"precision", state.precision}, {"routed", state.routed}};
  if (state.ladder)
    json["plan"]["after_out_of_memory"] = {{"microbatch", state.ladder->microbatch}, {"chunk", state.ladder->chunk}, {"every_segment_twice", state.ladder->every_segment_twice}, {"clean", state.ladder->clean}, {"patience", state.ladder->patience}};
  json["loss_scale"] = {{"scale", state.scaler.scale}, {"clean", state.scaler.clean}};
  json["skipped"] = state.skipped;
  json["classes"] = state.classes;
  json["train_samples"] = state.train_samples;
  json["train_digest"] = state.train_digest;
  json["best_metric"] = state.best_metric;
  if (state.best) json["best"] = {{"value", state.best->value}, {"step", state.best->step}, {"epoch", state.best->epoch}};
  json["without_better"] = state.without_better;
  json["pipeline"] = state.pipeline;
  json["overrides"] = state.overrides;
  json["plugins"] = Json::array();
  for (const auto& [name, hash] : state.plugins) json["plugins"].push_back({{"name", name}, {"hash", hash}});
  json["torch_version"] = state.torch_version;
  json["sluice_version"] = state.sluice_version;
  return json.dump(1, ' ', false, Json::error_handler_t::replace);
}

RunState run_state_from_json(const std::string& text) {
  try {
    const Json json = Json::parse(text);
    if (json.at("format").get<int>() != 1) throw Error(Code::data, "state.json has format " + json.at("format").dump() + ", this program reads 1");
    RunState state;
    state.step = json.at("step");
    state.epoch = json.at("epoch");
    state.cursor = {json.at("cursor").at("phase"), json.at("cursor").at("batch")};
    state.seed = json.at("seed");
    state.failures = json.at("failures");
    state.evaluated_at = json.at("evaluated_at");
    const Json& plan = json.at("plan");
    state.microbatch = plan.at("microbatch");
    state.chunk = plan.value("chunk", std::int64_t{0});
    state.compute_threads = plan.at("compute_threads");
    state.layout = plan.at("layout");
    state.device = plan.at("device");
    // Runs before there was a choice.
    state.precision = plan.value("precision", "fp32");
    state.routed = plan.value("routed", std::vector<std::string>{});
    if (plan.contains("after_out_of_memory")) {
      const Json& ladder = plan["after_out_of_memory"];
      state.ladder = LadderState{ladder.at("microbatch"), ladder.at("chunk"), ladder.at("every_segment_twice"), ladder.at("clean"), ladder.at("patience")};
    }
    if (json.contains("loss_scale")) state.scaler = {json["loss_scale"].at("scale"), json["loss_scale"].at("clean")};
    state.skipped = json.value("skipped", std::int64_t{0});
    state.classes = json.at("classes").get<std::vector<std::string>>();
    state.train_samples = json.at("train_samples");
    state.train_digest = json.at("train_digest");
    state.best_metric = json.at("best_metric");
    if (json.contains("best")) state.best = BestSoFar::State{json["best"].at("value"), json["best"].at("step"), json["best"].at("epoch")};
    state.without_better = json.at("without_better");
    state.pipeline = json.at("pipeline");
    state.overrides = json.at("overrides").get<std::vector<std::string>>();
    for (const auto& plugin : json.at("plugins")) state.plugins.emplace_back(plugin.at("name"), plugin.at("hash"));
    state.torch_version = json.at("torch_version");
    state.sluice_version = json.at("sluice_version");
    return state;
  } catch (const nlohmann::json::exception& error) {
    throw Error(Code::data, std::string("state.json is not what a run writes: ") + error.what());
  }
}

std::vector<Difference> differences(const RunState& saved, const RunState& now) {
  std::vector<Difference> found;
  const auto compare = [&](const std::string& what, const auto& before, const auto& after, bool changes) {
    if (before != after) found.push_back({what, fmt::format("{}", before), fmt::format("{}", after), changes});
  };
  compare("compute_threads", saved.compute_threads, now.compute_threads, true);
  compare("microbatch", saved.microbatch, now.microbatch, true);
  compare("chunk", saved.chunk, now.chunk, true);
  compare("layout", saved.layout, now.layout, true);
  compare("device", saved.device, now.device, true);
  compare("precision", saved.precision, now.precision, true);
  compare("kernels computed in another way", join(saved.routed, "; "), join(now.routed, "; "), true);
  compare("classes of the data", join(saved.classes, ", "), join(now.classes, ", "), true);
  compare("training samples", saved.train_samples, now.train_samples, true);
  compare("digest of the training samples (paths, pieces, labels, order)", saved.train_digest, now.train_digest, true);
  const auto before = keys_of(saved.pipeline), after = keys_of(now.pipeline);
  const bool has_schedule = after.contains("schedule.plugin") || before.contains("schedule.plugin");
  const auto value = [](const std::map<std::string, std::string>& keys, const std::string& key) {
    const auto at = keys.find(key);
    return at == keys.end() ? std::string("not set") : at->second;
  };
  std::map<std::string, std::string> all = before;
  all.insert(after.begin(), after.end());
  for (const auto& [key, unused] : all) compare(key, value(before, key), value(after, key), changes_result(key, has_schedule));
  for (const auto& [name, hash] : saved.plugins)
    for (const auto& [other, other_hash] : now.plugins)
      if (name == other && hash != other_hash) found.push_back({"plugin file of " + name, hash, other_hash, false});
  compare("LibTorch", saved.torch_version, now.torch_version, false);
  compare("sluice", saved.sluice_version, now.sluice_version, false);
  return found;
}

std::vector<std::string> check_resume(const RunState& saved, const RunState& now, bool force_threads) {
  std::vector<std::string> lines, refused;
  for (const auto& difference : differences(saved, now)) {
    const std::string line = fmt::format("{}: {} before, {} now", difference.what, difference.before, difference.now);
    const bool forced = force_threads && difference.what == "compute_threads";
    (difference.changes_result && !forced ? refused : lines).push_back(line);
  }
  if (refused.empty()) return lines;
  const auto alone = [&](std::string_view key) { return refused.size() == 1 && refused.front().starts_with(key); };
  throw Error(Code::configuration, "this is not the run that was saved, and its result would be another:\n    " + join(refused, "\n    "),
              alone("compute_threads") ? fmt::format("set budget.compute_threads = {}, or accept other last digits with --force-threads", saved.compute_threads)
              : alone("run.epochs") || alone("run.steps")
                  ? "the schedule spreads its rates over the whole run, so a longer one had other rates from its first step. To train on, start another run from these weights: model.weights = \"...\" and another run.dir"
                  : "put these back as they were, or start another run in another folder: run.dir = \"...\"");
}

}  // namespace sluice
