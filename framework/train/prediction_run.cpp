// predict: a source of the videos named, the pipeline's own stages, the model of a checkpoint.
#include <algorithm>
#include <numeric>

#include <ATen/core/Tensor.h>
#include <ATen/ops/softmax.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <sluice/error.hpp>
#include <sluice/source.hpp>

#include "framework/base/log.hpp"
#include "framework/base/strings.hpp"
#include "framework/train/checkpointing.hpp"
#include "framework/train/evaluation_run.hpp"
#include "framework/train/lost_device.hpp"
#include "framework/train/session.hpp"
#include "framework/train/split_pass.hpp"
#include "framework/train/weights.hpp"

namespace sluice {
namespace {

using Json = nlohmann::ordered_json;

// Not a plugin file: a source that is part of this program, and whose recipe is filled by hand.
struct NamedVideos {
  std::vector<std::string> paths;
  std::vector<std::string> names;  // of the classes
  std::string stream;
  static constexpr std::string_view help = "videos named on the command line";

  void list(Listing& listing) const {
    listing.classes(names);
    for (const auto& path : paths) listing.add({.split = Split::val, .streams = {{stream, path}}, .origin = path});
  }
};

Recipe source_of(std::vector<std::string> paths, std::vector<std::string> names, std::string stream) {
  static constexpr abi::Manifest manifest = detail::make_manifest<NamedVideos>("source.named_videos", abi::Kind::source, 0, "");
  static constexpr abi::Descriptor descriptor = detail::SourceCalls<NamedVideos>::descriptor(&manifest);
  Recipe recipe(descriptor);
  *static_cast<NamedVideos*>(recipe.instance()) = {std::move(paths), std::move(names), std::move(stream)};
  return recipe;
}

// The one stream that the pipeline's decoders read.
std::string decoded_stream(const Pipeline& pipeline, const Registry& registry) {
  std::vector<std::string> streams;
  for (const auto& stage : pipeline.stages) {
    const auto* manifest = registry.manifest(stage.plugin.plugin);
    if (manifest && manifest->kind == static_cast<std::uint32_t>(abi::Kind::decoder)) streams.insert(streams.end(), stage.on.begin(), stage.on.end());
  }
  std::sort(streams.begin(), streams.end());
  streams.erase(std::unique(streams.begin(), streams.end()), streams.end());
  if (streams.size() == 1) return streams.front();
  throw Error(Code::configuration, streams.empty() ? "no stage of this pipeline decodes a video" : "a sample of this pipeline is several videos: " + join(streams, ", "),
              "predict takes pipelines in which a sample is one video; eval takes any");
}

// The names that the outputs mean: those the checkpoint was trained with, else the source's.
std::vector<std::string> classes_of(const Weights& weights, const TrainRequest& request) {
  if (weights.state) return weights.state->classes;
  const Stages no_stages;
  return Dataset(Recipe(*request.registry, request.pipeline->data), no_stages, {}).classes();
}

void print_video(const TrainRequest& request, const std::string& path, const std::vector<std::string>& names, const at::Tensor& logits) {
  const at::Tensor scores = at::softmax(logits.reshape({-1}).to(at::kDouble), 0).contiguous();
  const auto* values = scores.const_data_ptr<double>();
  std::vector<std::int64_t> order(static_cast<std::size_t>(scores.numel()));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return values[a] > values[b]; });
  order.resize(std::min(order.size(), static_cast<std::size_t>(request.top)));
  const auto name = [&](std::int64_t label) {
    return static_cast<std::size_t>(label) < names.size() ? names[static_cast<std::size_t>(label)] : std::to_string(label);
  };
  if (request.json) {
    Json json{{"video", path}, {"labels", Json::array()}};
    for (const auto label : order) json["labels"].push_back({{"label", name(label)}, {"probability", values[label]}});
    fmt::print("{}\n", json.dump(-1, ' ', false, Json::error_handler_t::replace));
  } else {
    fmt::print("{}\n", path);
    for (const auto label : order) fmt::print("  {:>6.2f} %  {}\n", 100 * values[label], name(label));
  }
  std::fflush(stdout);
}

void print_failed(const TrainRequest& request, const std::string& path, const std::string& why) {
  if (!request.json) return log::error("{}: {}", path, why);
  fmt::print("{}\n", Json{{"video", path}, {"error", why}}.dump(-1, ' ', false, Json::error_handler_t::replace));
  std::fflush(stdout);
}

}  // namespace

int run_prediction(const TrainRequest& request, Housekeeping& housekeeping, Reporter& reporter) {
  const Weights weights = find_weights(request.checkpoint, request.pipeline->run.dir.value);
  const auto names = classes_of(weights, request);
  const std::string stream = decoded_stream(*request.pipeline, *request.registry);
  std::vector<std::string> paths;
  for (const auto& video : request.videos) paths.push_back(std::filesystem::absolute(video).string());
  const auto as_typed = [&](const std::string& path) {
    for (std::size_t i = 0; i < paths.size(); ++i)
      if (path.starts_with(paths[i])) return request.videos[i];
    return path;
  };

  Session::Options options{.training = false, .starting_weights = false, .source = source_of(paths, names, stream), .progress = [&] { housekeeping.progress(); }};
  std::optional<Session> session;
  try {
    session.emplace(request, reporter, std::move(options));
  } catch (const Error& error) {
    // No video at all is left: then that is the answer.
    if (error.code() != Code::data || paths.size() != 1) throw;
    print_failed(request, request.videos.front(), error.message());
    return static_cast<int>(Code::data);
  }
  std::size_t failed = session->dataset->failed().size();
  for (const auto& item : session->dataset->failed()) print_failed(request, as_typed(item.where), item.why);

  std::vector<NamedMetric> no_metrics;
  Evaluation evaluation(*session->model, nullptr, no_metrics, {session->dataset->views(Split::val), session->pipeline.eval.average.value, session->classes(), session->arithmetic});
  const auto path_of = [&](std::int64_t sample) {
    for (const auto& [name, text] : session->dataset->texts(Split::val, sample))
      if (name == stream) return text;
    return std::string();
  };
  evaluation.on_video([&](const VideoOutputs& video) {
    const std::string path = path_of(video.video * session->dataset->views(Split::val));
    const at::Tensor* logits = video.outputs.find("logits");
    if (logits == nullptr) throw Error(Code::configuration, "the model gives no 'logits', so there is nothing to label");
    print_video(request, as_typed(path), names, *logits);
  });
  on_device([&] { return DeviceUse{session->device, "the prediction"}; }, [&] {
    load_tensors(weights.tensors(), tensors_of(*session->model), false);
    SplitPass pass(*session, housekeeping, reporter, SplitPass::OnSignal::end_at_once);
    BatchWork work(*session, {.place = [&] { return BatchWork::Place{pass.batch(), "the prediction"}; },
                              .say = [](const std::string& line) { log::warning("{}", line); },
                              .beyond_budget = [&](const std::string& line) { reporter.beyond_budget(line); }});
    pass.run(work, evaluation, [&](const Batch& batch) {
      failed += batch.failed.size();
      for (const auto& item : batch.failed) print_failed(request, as_typed(path_of(item.sample)), item.why);
    });
    static_cast<void>(evaluation.finish());
  });
  return failed > 0 ? static_cast<int>(Code::data) : 0;
}

}  // namespace sluice
