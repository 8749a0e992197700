// One clip of a long video: encoded chunk by chunk, its head on all features, the gradient taken back chunk by chunk.
//
//   LongClip clip(model, {.training = true});
//   for each chunk: clip.encode(microbatch, place);        // without a graph; of the clip, only features stay
//   const LossValue value = clip.learn(loss, classes);     // gradients of the head and of the features
//   for each chunk: clip.backward(microbatch, place);      // encoded again, with a graph: gradients of the encoder
//
// The gradient is that of a graph over the whole clip (docs/decisions/0011-long-clips-in-two-passes.md).
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

#include <sluice/torch/network.hpp>
#include <sluice/torch/training.hpp>

#include "framework/flow/chunks.hpp"
#include "framework/train/assemble.hpp"
#include "framework/train/pass.hpp"
#include "framework/train/precision.hpp"

namespace sluice {

// What a chunk needs on each side, so that the features that count see what they would in the whole clip: the model's radius, in whole
// features. Throws Error(Code::plugin) where the model declares what cannot be.
[[nodiscard]] Chunking chunking_of(const Model& model, std::int64_t frames);

class LongClip {
 public:
  struct Options {
    bool training = false;
    const SegmentPlan* segments = nullptr;  // of the encoder's second run, and of the head
    SegmentObserver* observer = nullptr;           // of the same
    Arithmetic arithmetic{};
  };
  LongClip(Model& model, Options options);

  // The first chunk that comes brings the streams that are no video. Throws Error(Code::plugin) when the encoder's features are not what
  // stride and frames say.
  void encode(const Microbatch& chunk, const ChunkPlace& place);
  // Without a gradient.
  [[nodiscard]] Outputs outputs();
  // Backward through the head. A weight of 0 leaves no gradient anywhere, and backward() then does nothing.
  // `seed`: what the backward pass begins with, of the weight that the loss gives; nothing: 1.
  LossValue learn(Loss& loss, std::int64_t classes, const std::function<double(double weight)>& seed = {});
  void backward(const Microbatch& chunk, const ChunkPlace& place);

  // All streams but the videos, and each video's NAME.lengths, which are those of the clip.
  [[nodiscard]] const Inputs& inputs() const { return inputs_; }
  [[nodiscard]] const Inputs& host() const { return host_; }

 private:
  [[nodiscard]] at::Tensor run_encoder(const Microbatch& chunk, const ChunkPlace& place, Pass& pass) const;
  [[nodiscard]] std::vector<std::uint64_t> keys_of(const Microbatch& chunk, const ChunkPlace& place) const;
  [[nodiscard]] Outputs run_head(const at::Tensor& features, Pass& pass) const;
  void remember(const Microbatch& chunk, const ChunkPlace& place);
  [[nodiscard]] std::int64_t features_of(std::int64_t frames) const { return (frames + stride_ - 1) / stride_; }

  Model& model_;
  Options options_;
  std::int64_t stride_;
  std::vector<std::uint64_t> keys_;
  Inputs inputs_, host_;
  at::Tensor features_;
  at::Tensor gradient_;  // of the features
};

}  // namespace sluice
