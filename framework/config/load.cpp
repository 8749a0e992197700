// Layers, overrides, keys, and what several keys must be together.
#include "framework/config/load.hpp"

#include <algorithm>

#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/base/strings.hpp"
#include "framework/config/layers.hpp"
#include "framework/config/problems.hpp"
#include "framework/config/reader.hpp"
#include "framework/config/tables.hpp"

namespace sluice {
namespace {

namespace fs = std::filesystem;

// [plugins] path comes first: the other sections are checked against what it adds.
void add_plugin_paths(const Table& root, Catalogue& catalogue, Problems& problems) {
  const Member* section = find(root, "plugins");
  const Table* table = section ? as_table(section->value) : nullptr;
  const Member* path = table ? find(*table, "path") : nullptr;
  if (!path) return;
  const auto add = [&](const Value& item) {
    const std::string* text = as_text(item);
    if (!text || text->empty() || text->find('\0') != std::string::npos) return;  // the reader reports it
    try {
      catalogue.add_path((folder_of(item.place) / *text).lexically_normal());
    } catch (const Error& error) {
      problems.add(item.place, fmt::format("plugins.path: {}", error.where().empty() ? error.message() : error.where() + ": " + error.message()), error.hint(), error.code());
    }
  };
  if (const List* list = as_list(path->value))
    for (const Value& item : *list) add(item);
  else add(path->value);
}

// "augment.hflip", and "augment.hflip#2" for the second: the key of its random numbers.
void name_stages(std::vector<StageConfig>& stages) {
  std::map<std::string, int> seen;
  for (StageConfig& stage : stages) {
    const int nth = ++seen[stage.plugin.plugin];
    stage.name = nth == 1 ? stage.plugin.plugin : fmt::format("{}#{}", stage.plugin.plugin, nth);
  }
}

bool has_key(const Table& root, std::string_view section, std::string_view key) {
  const Member* there = find(root, section);
  const Table* table = there ? as_table(there->value) : nullptr;
  return table && find(*table, key);
}

// Epochs in a file and steps in a layer above it, or the other way round: the later layer says how long the run is.
void later_length_wins(Table& root) {
  Member* there = find(root, "run");
  Table* run = there ? std::get_if<Table>(&there->value.data) : nullptr;
  if (!run) return;
  const Member *epochs = find(*run, "epochs"), *steps = find(*run, "steps");
  if (!epochs || !steps || epochs->place.layer == steps->place.layer) return;
  const std::string earlier = epochs->place.layer < steps->place.layer ? "epochs" : "steps";
  std::erase_if(*run, [&](const Member& member) { return member.key == earlier; });
}

void check_together(const Pipeline& pipeline, const Table& root, Purpose purpose, const Place& file, Problems& problems) {
  const RunConfig& run = pipeline.run;
  if (run.epochs.given && run.steps.given)
    problems.add(run.steps.place, "run.epochs and run.steps are both given", fmt::format("keep one of them; run.epochs stands at {}", run.epochs.place.text()));
  if (purpose == Purpose::training && !has_key(root, "run", "epochs") && !has_key(root, "run", "steps"))
    problems.add(file, "the length of the run is missing", "write [run] epochs = 10, or steps = 1000");

  const BatchConfig& batch = pipeline.batch;
  if (batch.microbatch.value > batch.size.value)
    problems.add(batch.microbatch.place, fmt::format("batch.microbatch = {} is larger than batch.size = {}", batch.microbatch.value, batch.size.value),
                 "a microbatch is a part of the batch: lower it, or raise batch.size");
  const BatchNormConfig& norm = pipeline.model.batch_norm;
  if (norm.mode == BatchNormConfig::Mode::group && norm.group > batch.size.value)
    problems.add(norm.place, fmt::format("batch_norm.group = {} is larger than batch.size = {}", norm.group, batch.size.value), "statistics are taken over at most one batch");

  using Mode = SegmentChoice::Mode;
  const PlanConfig& plan = pipeline.plan;
  const auto overlap = [](const SegmentChoice& a, const SegmentChoice& b) {
    return (a.mode == Mode::all && (b.mode == Mode::all || !b.names.empty())) ||
           std::any_of(a.names.begin(), a.names.end(), [&](const std::string& name) { return std::find(b.names.begin(), b.names.end(), name) != b.names.end(); });
  };
  if (overlap(plan.checkpoint, plan.offload) || overlap(plan.offload, plan.checkpoint))
    problems.add(plan.offload.place, "plan.offload and plan.checkpoint name the same segments", "a segment is computed twice or waits in host memory, not both: name it in one of them");

  const InputConfig& input = pipeline.model.input;
  if (input.layout != "auto" && plan.layout.value != "auto" && input.layout != plan.layout.value)
    problems.add(plan.layout.place, fmt::format("plan.layout = \"{}\" and model.input.layout = \"{}\" exclude each other", plan.layout.value, input.layout),
                 "weights and clips lie in one layout: keep one of the two keys");
  if (!input.mean.empty() && !input.std.empty() && input.mean.size() != input.std.size())
    problems.add(pipeline.model.plugin.place, fmt::format("model.input has {} and {}", counted(input.mean.size(), "mean"), counted(input.std.size(), "std")),
                 "give one of each for every channel");
}

}  // namespace

Pipeline load_pipeline(const fs::path& file, const std::vector<std::string>& overrides, Catalogue& catalogue, Purpose purpose, const fs::path& plan,
                       const std::vector<fs::path>& with) {
  Table root = read_layers(file, with);
  if (!plan.empty()) apply_plan(root, plan);
  apply_overrides(root, overrides);
  later_length_wins(root);

  Problems problems;
  add_plugin_paths(root, catalogue, problems);

  Pipeline pipeline;
  pipeline.file = fs::absolute(file).lexically_normal();
  const Place top{file.string(), 1, 1, command_line_layer - 1};
  std::set<std::string> needs{"data"};
  if (purpose == Purpose::training) needs.insert({"model", "loss", "optimizer"});
  Reader reader(root, top, catalogue, std::move(needs), problems, pipeline.notices);
  visit_pipeline(reader, pipeline);
  reader.finish();
  name_stages(pipeline.stages);
  check_together(pipeline, root, purpose, top, problems);
  problems.throw_if_any();

  if (!pipeline.run.name.given) pipeline.run.name.value = file.stem().string();
  if (!pipeline.run.dir.given) pipeline.run.dir.value = fs::current_path() / "runs" / pipeline.run.name.value;
  pipeline.canonical = canonical_toml(pipeline, catalogue);
  return pipeline;
}

}  // namespace sluice
