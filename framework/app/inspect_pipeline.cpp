// The graph that a pipeline becomes: data, stages, and the bound of every queue.
#include <algorithm>
#include <map>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "framework/app/inspect.hpp"
#include "framework/app/open_data.hpp"
#include "framework/app/printing.hpp"
#include "framework/base/bytes.hpp"
#include "framework/base/strings.hpp"
#include "framework/config/tables.hpp"
#include "framework/flow/feed.hpp"
#include "framework/flow/workers.hpp"

namespace sluice::app {
namespace {

using nlohmann::json;

struct Part {
  Split split;
  std::string name;
  std::vector<GraphNode> nodes;
  SampleBounds bounds;
};

struct View {
  std::vector<Part> parts;
  std::vector<FeedStatus::Queue> queues;
  std::int64_t in_flight = 0;
  std::uint64_t largest = 0;  // bytes of the largest sample
  std::uint64_t smallest = 0;  // samples' share below which no batch comes together
  std::string refused;        // why the graph cannot run in this budget
};

View look(OpenData& data, const Pipeline& pipeline) {
  const std::uint64_t cap = pipeline.budget.host_ram.value != 0 ? pipeline.budget.host_ram.value : no_cap;
  View view;
  for (const auto& [split, name] : {std::pair{Split::train, "train"}, std::pair{Split::val, "val"}}) {
    if (data.dataset->samples(split) == 0) continue;
    view.parts.push_back({split, name, describe_graph(*data.dataset, data.stages, split), sample_bounds(*data.dataset, data.stages, split, cap, pipeline.batch.size.value)});
    view.largest = std::max(view.largest, view.parts.back().bounds.largest);
    view.smallest = std::max(view.smallest, view.parts.back().bounds.smallest);
  }
  try {
    // A feed that is given no phase admits nothing; it knows its queues.
    Ledger ledger(cap);
    Feed::Options options;
    options.workers = workers_of(pipeline.budget);
    options.in_flight = pipeline.budget.in_flight.value;
    options.batch_size = options.eval_batch_size = pipeline.batch.size.value;
    options.seed = static_cast<std::uint64_t>(pipeline.run.seed.value);
    const Feed feed(*data.dataset, data.stages, ledger, options, [](std::uint64_t) { return std::optional<Phase>(); });
    const FeedStatus status = feed.status();
    view.queues = status.queues;
    view.in_flight = status.in_flight_limit;
  } catch (const Error& error) {
    view.refused = error.what();
  }
  return view;
}

// A resize of what a decoder made, where the decoder could have made it so: decoding is the place where pixels cost least. What
// scales is known by its field short_side.
std::vector<std::string> advice(const Loaded& loaded) {
  std::vector<std::string> out;
  std::map<std::string, std::string> decoder_of;  // stream: the decoder that wrote it last, until another stage does
  for (const StageConfig& stage : loaded.pipeline.stages) {
    const abi::Manifest& manifest = *loaded.registry.manifest(stage.plugin.plugin);
    const auto has = [&](std::string_view field) {
      return std::any_of(manifest.fields, manifest.fields + manifest.field_count, [&](const auto& one) { return field == one.name; });
    };
    if (manifest.kind == static_cast<std::uint32_t>(abi::Kind::decoder)) {
      for (const auto& stream : stage.on)
        if (has("short_side") && !find(stage.plugin.settings, "short_side") && !find(stage.plugin.settings, "size")) decoder_of[stream] = stage.name;
      continue;
    }
    for (const auto& stream : stage.on) {
      const auto decoder = decoder_of.find(stream);
      if (decoder == decoder_of.end()) continue;
      if (has("short_side") && stage.only.empty())
        out.push_back(fmt::format("{}: {} on '{}' follows {}, which can scale while it decodes: give it short_side or size, and remove the resize", stage.plugin.place.text(), stage.name, stream, decoder->second));
      if (has("size")) decoder_of.erase(decoder);  // a crop or a resize; mirrors and colours leave the size as it was
    }
  }
  return out;
}

std::string after_text(const GraphNode& node) { return node.after.empty() ? "the source" : join(node.after, " and "); }

// Samples weigh at most what was leased for them; behind the batcher, their place in the batch.
std::uint64_t bytes_of(const FeedStatus::Queue& queue, const View& view, std::int64_t batch) {
  std::uint64_t place = 0;
  for (const auto& part : view.parts) place = std::max(place, part.bounds.place);
  const auto items = static_cast<std::uint64_t>(queue.limit);
  if (queue.edge.ends_with("(batches)")) return items * static_cast<std::uint64_t>(batch) * place;
  return items * (queue.edge.starts_with("batch ->") ? place : view.largest);
}

void print_text(const Loaded& loaded, const OpenData& data, const View& view) {
  const Pipeline& pipeline = loaded.pipeline;
  const int width = terminal_width();
  fmt::print("{}\n\n", pipeline.file.string());
  std::vector<std::vector<std::string>> facts{{"source", pipeline.data.plugin}};
  if (!data.dataset->classes().empty()) {
    auto names = data.dataset->classes();
    const std::size_t all = names.size();
    if (all > 12) names.resize(12);
    for (auto& name : names) name = shown_name(name);
    facts.push_back({"classes", fmt::format("{}: {}{}", all, join(names, ", "), all > 12 ? ", ..." : "")});
  }
  for (const auto& part : view.parts) {
    const auto views = data.dataset->views(part.split);
    facts.push_back({part.name, fmt::format("{}{}", counted(static_cast<std::uint64_t>(data.dataset->videos(part.split)), "video"), views > 1 ? fmt::format(" x {} clips", views) : "")});
  }
  if (const auto& failed = data.dataset->failed(); !failed.empty())
    facts.push_back({"unusable", fmt::format("{} {}; the first: {}", with_commas(failed.size()), failed.size() == 1 ? "entry" : "entries", cause_text(failed[0]))});
  facts.push_back({"budget", fmt::format("host_ram {}, {} workers, {} compute threads", pipeline.budget.host_ram.value ? format_bytes(pipeline.budget.host_ram.value) : "auto", workers_of(pipeline.budget), pipeline.budget.compute_threads.value)});
  fmt::print("{}", columns(facts, 2, width));

  for (const auto& part : view.parts) {
    fmt::print("\nGraph of {}\n", part.name);
    std::vector<std::vector<std::string>> rows{{"stage", "after", "reads", "writes", "bytes of a call", "runs"}};
    for (const auto& node : part.nodes)
      rows.push_back({node.name, after_text(node), join(node.reads, ", "), join(node.writes, ", "), node.bytes ? "<= " + format_bytes(node.bytes) : "-", node.parallel ? "in parallel" : "in order"});
    fmt::print("{}", columns(rows, 2, std::max(width, 120)));
    std::vector<std::vector<std::string>> ends;
    for (const auto& [name, info] : part.bounds.streams) ends.push_back({name, shape_text(info), info.text ? "" : format_bytes(info.bytes())});
    fmt::print("  what reaches the trainer:\n{}", columns(ends, 4, width));
    fmt::print("  a sample weighs at most {} while it is made ({} in the middle), {} in the batch\n", format_bytes(part.bounds.largest), format_bytes(part.bounds.typical), format_bytes(part.bounds.place));
    if (part.bounds.too_large > 0) fmt::print("  {} too large for this budget\n", counted(static_cast<std::uint64_t>(part.bounds.too_large), "sample"));
    if (part.bounds.unusable > 0) fmt::print("  {} not usable: {}\n", counted(static_cast<std::uint64_t>(part.bounds.unusable), "sample"), part.bounds.why_unusable);
  }
  for (const auto& line : advice(loaded)) fmt::print("\nadvice: {}\n", line);
  if (!view.refused.empty()) {
    fmt::print("\nThis budget does not work: {}\n", view.refused);
    return;
  }
  fmt::print("\nQueues: at most {} on the way at once; each holds the bytes that were leased for it at admission\n", counted(static_cast<std::uint64_t>(view.in_flight), "sample"));
  std::vector<std::vector<std::string>> rows{{"queue", "items", "bytes"}};
  for (const auto& queue : view.queues) rows.push_back({queue.edge, fmt::format("<= {}", queue.limit), "<= " + format_bytes(bytes_of(queue, view, pipeline.batch.size.value))});
  fmt::print("{}", columns(rows, 2, width));
  fmt::print("  all together: the samples' share of host_ram, at least {} ({} bytes); sluice check {} says how much it is\n", format_bytes(view.smallest), view.smallest, pipeline.file.filename().string());
}

void print_json(const Loaded& loaded, const OpenData& data, const View& view) {
  const Pipeline& pipeline = loaded.pipeline;
  json parts = json::array();
  for (const auto& part : view.parts) {
    json nodes = json::array(), streams = json::array();
    for (const auto& node : part.nodes) nodes.push_back({{"name", node.name}, {"after", node.after}, {"reads", node.reads}, {"writes", node.writes}, {"bytes", node.bytes}, {"parallel", node.parallel}});
    for (const auto& [name, info] : part.bounds.streams) streams.push_back({{"name", name}, {"shape", shape_text(info)}, {"bytes", info.bytes()}});
    parts.push_back({{"split", part.name}, {"videos", data.dataset->videos(part.split)}, {"samples", data.dataset->samples(part.split)}, {"stages", nodes}, {"streams", streams},
                     {"largest", part.bounds.largest}, {"typical", part.bounds.typical}, {"place", part.bounds.place}, {"too_large", part.bounds.too_large}, {"smallest_share", part.bounds.smallest}});
  }
  json queues = json::array(), failed = json::array();
  for (const auto& queue : view.queues) queues.push_back({{"edge", queue.edge}, {"items", queue.limit}, {"bytes", bytes_of(queue, view, pipeline.batch.size.value)}});
  for (const auto& one : data.dataset->failed()) failed.push_back({{"where", one.where}, {"why", one.why}});
  const json out{{"file", pipeline.file.string()}, {"classes", data.dataset->classes()}, {"parts", parts}, {"in_flight", view.in_flight}, {"queues", queues}, {"failed", failed}, {"advice", advice(loaded)}, {"refused", view.refused}};
  fmt::print("{}\n", out.dump(2, ' ', false, json::error_handler_t::replace));
}

}  // namespace

void inspect_pipeline(Loaded& loaded, bool json) {
  OpenData data = open_data(loaded.registry, loaded.pipeline);
  const View view = look(data, loaded.pipeline);
  json ? print_json(loaded, data, view) : print_text(loaded, data, view);
}

}  // namespace sluice::app
