// Evaluation of a split: every sample once, without gradients, views of a video averaged, metrics on the CPU.
//
//   Evaluation evaluation(model, loss, metrics, {.views = 3, .average = "prob"});
//   for each batch: evaluation.add(assembler, batch.samples);
//   const EvalNumbers numbers = evaluation.finish();
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <sluice/torch/network.hpp>
#include <sluice/torch/training.hpp>

#include "framework/train/assemble.hpp"
#include "framework/train/long_clip.hpp"
#include "framework/train/precision.hpp"

namespace sluice {

struct NamedMetric {
  std::string name;  // "accuracy", "accuracy#2"
  std::unique_ptr<Metric> metric;
};

struct EvalOptions {
  std::int64_t views = 1;       // clips of each video, adjacent
  std::string average = "prob";  // prob: mean of softmax; score: mean of logits
  std::int64_t classes = 0;
  Arithmetic arithmetic{};
};

struct EvalNumbers {
  std::vector<std::pair<std::string, double>> numbers;  // "loss", then "accuracy.top1", ...
  std::vector<std::pair<std::string, std::string>> tables;
  std::int64_t clips = 0;
  std::int64_t videos = 0;
};

// What the model said of one video, averaged over its views: rows of one.
struct VideoOutputs {
  std::int64_t video = 0;  // number in its split
  Outputs outputs;
  Inputs host;
};

class Evaluation {
 public:
  // `loss` may be null: then there is none to report. Resets the metrics.
  Evaluation(Model& model, Loss* loss, std::vector<NamedMetric>& metrics, EvalOptions options);

  // The samples of one microbatch, in order over the whole evaluation; in smaller parts once memory was short. Throws
  // c10::OutOfMemoryError where a single one does not fit.
  void add(const Assembler& assembler, std::span<const FinishedSample> samples);
  // Passes of one clip each, or of a chunk and the head after it, that count nothing: to see what they need.
  void rehearse(const Assembler& assembler, const Batch& batch) const;
  // What the feed handed over: the same, or a chunk of a clip. Where a chunk throws, nothing of its clip is left: what comes next may be
  // that clip from its beginning.
  void add(const Assembler& assembler, const Batch& batch);
  [[nodiscard]] EvalNumbers finish();

  // Called with each video as it is complete, e.g. to print its labels.
  void on_video(std::function<void(const VideoOutputs&)> callback) { on_video_ = std::move(callback); }

 private:
  void add_chunk(const Assembler& assembler, const Batch& batch);
  void add_at_once(const Assembler& assembler, std::span<const FinishedSample> samples, const Assembler::Extents& extents);
  // Of one forward pass; `indices` of its clips in the split.
  void take(const Outputs& outputs, const Inputs& inputs, const Inputs& host, const std::vector<std::int64_t>& indices);
  void count(const Outputs& on_host, const Inputs& host, const std::vector<std::int64_t>& indices);
  void complete_video();
  void update(const Outputs& outputs, const Inputs& host);

  Model& model_;
  Loss* loss_;
  std::vector<NamedMetric>& metrics_;
  EvalOptions options_;
  std::function<void(const VideoOutputs&)> on_video_;
  std::size_t at_a_time_ = std::numeric_limits<std::size_t>::max();
  double loss_sum_ = 0;
  double weight_ = 0;
  std::int64_t clips_ = 0;
  std::int64_t videos_ = 0;
  std::optional<LongClip> long_clip_;  // whose chunks are coming in
  // The video whose views are coming in.
  std::int64_t current_ = -1;
  std::int64_t current_views_ = 0;
  Outputs current_outputs_;  // sums
  Inputs current_host_;
};

}  // namespace sluice
