// Opens the data with the decoder that the pipeline will have, and counts.
#include "framework/app/survey.hpp"

#include <algorithm>

#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/app/open_data.hpp"
#include "framework/app/printing.hpp"
#include "framework/base/strings.hpp"
#include "framework/flow/dataset_impl.hpp"

namespace sluice::app {
namespace {

Spread spread(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  return {values.front(), values[values.size() / 2], values.back()};
}

StageConfig stage(const std::string& plugin) {
  StageConfig config;
  config.plugin.plugin = config.name = plugin;
  return config;
}

OpenData open_with(Registry& registry, const PluginConfig& source, const std::string& decoder, std::int64_t workers) {
  Pipeline pipeline;
  pipeline.data = source;
  pipeline.stages = {stage("frames.dense"), stage(decoder)};
  pipeline.budget.workers.value = workers;
  return open_data(registry, pipeline);
}

std::int64_t samples(const OpenData& data) { return data.dataset->samples(Split::train) + data.dataset->samples(Split::val); }

[[noreturn]] void throw_nothing(const std::vector<Failed>& failed) {
  std::string text = "no video here can be used";
  for (std::size_t i = 0; i < std::min<std::size_t>(3, failed.size()); ++i) text += (i == 0 ? ": " : "; ") + cause_text(failed[i]);
  throw Error(Code::data, text, "it takes a folder for each class, such folders in train/ and val/, or a list with a line `path,label` for each video");
}

}  // namespace

Survey survey(Registry& registry, const PluginConfig& source, std::int64_t workers) {
  OpenData data = open_with(registry, source, "decode.ffmpeg", workers);
  Survey out;
  if (samples(data) == 0 && registry.manifest("decode.frames")) {
    OpenData pictures = open_with(registry, source, "decode.frames", workers);
    if (samples(pictures) > 0) data = std::move(pictures), out.frame_folders = true;
  }
  if (samples(data) == 0) throw_nothing(data.dataset->failed());
  const Dataset::Impl& dataset = data.dataset->impl();
  out.failed = dataset.failed;
  for (const auto& name : dataset.classes) out.classes.push_back({name, 0, 0});
  std::vector<double> frames, seconds, rates, heights, widths, short_sides;
  for (const auto split : {Split::train, Split::val}) {
    const Rows& rows = dataset.of(split);
    (split == Split::train ? out.train : out.val) = static_cast<std::int64_t>(rows.size());
    for (std::size_t row = 0; row < rows.size(); ++row) {
      const auto label = rows.labels[row];
      if (label >= 0 && static_cast<std::size_t>(label) < out.classes.size()) ++(split == Split::train ? out.classes[static_cast<std::size_t>(label)].train : out.classes[static_cast<std::size_t>(label)].val);
    }
    for (const VideoColumn& column : rows.videos)
      for (std::size_t row = 0; row < rows.size(); ++row) {
        const VideoFile& file = dataset.files[column.files[row]];
        const auto count = static_cast<double>(dataset.range(column, row).frames);
        out.pieces = out.pieces || count < file.frames;
        frames.push_back(count);
        if (file.rate > 0) rates.push_back(file.rate), seconds.push_back(count / file.rate);
        heights.push_back(file.height), widths.push_back(file.width), short_sides.push_back(std::min(file.height, file.width));
      }
  }
  if (!dataset.labelled) throw Error(Code::data, "no video here has a label", "a recognizer learns from labels: a folder for each class, or a list with a line `path,label` for each video");
  out.frames = spread(std::move(frames)), out.seconds = spread(std::move(seconds)), out.rate = spread(std::move(rates));
  out.height = spread(std::move(heights)), out.width = spread(std::move(widths)), out.short_side = spread(std::move(short_sides));
  return out;
}

}  // namespace sluice::app
