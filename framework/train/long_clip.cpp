// Chunks overlap by the halo; what is kept of each, and what gets a gradient, is its own frames.
#include "framework/train/long_clip.hpp"

#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <sluice/error.hpp>
#include <sluice/rng.hpp>

#include "framework/train/step.hpp"

namespace sluice {
namespace {

// The streams that an encoder sees.
Inputs videos_of(const Microbatch& chunk) {
  Inputs videos;
  for (const auto& [name, tensor] : chunk.inputs)
    if (!chunk.host.has(name)) videos.set(name, tensor);
  return videos;
}

}  // namespace

Chunking chunking_of(const Model& model, std::int64_t frames) {
  const auto radius = model.temporal_radius().value_or(0), stride = model.temporal_stride();
  if (radius < 0 || stride < 1)
    throw Error(Code::plugin, fmt::format("the model declares a temporal radius of {} and a stride of {}", radius, stride), "a radius is at least 0 frames, a stride at least 1");
  return {frames, (radius + stride - 1) / stride * stride};
}

LongClip::LongClip(Model& model, Options options) : model_(model), options_(options), stride_(model.temporal_stride()) {}

// Both passes draw the same for a chunk; another chunk draws something else.
std::vector<std::uint64_t> LongClip::keys_of(const Microbatch& chunk, const ChunkPlace& place) const {
  std::vector<std::uint64_t> keys;
  for (const auto key : chunk.keys) keys.push_back(mix_bits(mix_bits(key ^ 0x4348554e4b5f4b31u) ^ static_cast<std::uint64_t>(place.begin)));
  return keys;
}

void LongClip::remember(const Microbatch& chunk, const ChunkPlace& place) {
  keys_ = chunk.keys;
  for (const auto& [name, tensor] : chunk.inputs)
    if (chunk.host.has(name)) inputs_.set(name, tensor);
  host_ = chunk.host;
  // Also where all chunks are of one length: clips need not be.
  for (const auto& [name, tensor] : videos_of(chunk)) {
    const at::Tensor lengths = at::full({chunk.clips}, place.clip_frames, at::kLong);
    host_.set(name + ".lengths", lengths);
    inputs_.set(name + ".lengths", lengths.to(tensor.device()));
  }
}

// The features of the frames that count.
at::Tensor LongClip::run_encoder(const Microbatch& chunk, const ChunkPlace& place, Pass& pass) const {
  at::Tensor features;
  {
    const AutocastScope scope(options_.arithmetic);
    features = model_.encode(videos_of(chunk), pass);
  }
  const auto expected = features_of(place.last - place.first);
  if (!features.defined() || features.dim() < 3 || features.size(0) != chunk.clips || features.size(2) != expected)
    throw Error(Code::plugin, fmt::format("encode() made {} of {}, where [{}, channels, {}] was declared",
                                          features.defined() ? fmt::format("features of {} axes{}", features.dim(), features.dim() < 3 ? "" : fmt::format(", {} of them along time", features.size(2))) : "nothing",
                                          fmt::format("{} frames", place.last - place.first), chunk.clips, expected),
                "features have the axes [clip, channels, time, ...], and temporal_stride() frames each, rounded up");
  return features.narrow(2, (place.begin - place.first) / stride_, features_of(place.end - place.begin));
}

void LongClip::encode(const Microbatch& chunk, const ChunkPlace& place) {
  const at::NoGradGuard no_grad;
  model_.set_training(options_.training);
  if (!features_.defined()) remember(chunk, place);
  MicrobatchPass pass(options_.training, keys_of(chunk, place));
  const at::Tensor own = run_encoder(chunk, place, pass);
  if (!features_.defined()) {
    auto sizes = own.sizes().vec();
    sizes[2] = features_of(place.clip_frames);
    features_ = at::zeros(sizes, own.options());
  }
  features_.narrow(2, place.begin / stride_, own.size(2)).copy_(own);
}

Outputs LongClip::outputs() {
  const at::NoGradGuard no_grad;
  model_.set_training(options_.training);
  MicrobatchPass pass(options_.training, keys_);
  const at::Tensor features = std::exchange(features_, {});
  return run_head(features, pass);
}

Outputs LongClip::run_head(const at::Tensor& features, Pass& pass) const {
  Outputs outputs;
  {
    const AutocastScope scope(options_.arithmetic);
    outputs = model_.head(features, inputs_, pass);
  }
  return for_the_loss(outputs);
}

LossValue LongClip::learn(Loss& loss, std::int64_t classes, const std::function<double(double weight)>& seed) {
  model_.set_training(options_.training);
  loss.check(host_, classes);
  at::Tensor leaf = std::exchange(features_, {}).detach().set_requires_grad(true);
  MicrobatchPass pass(options_.training, keys_, {options_.segments, {}, options_.observer});
  const Outputs outputs = run_head(leaf, pass);
  LossValue value = loss(outputs, inputs_, host_);
  check_loss(value);
  if (value.weight > 0) value.sum.backward(at::full_like(value.sum, seed ? seed(value.weight) : 1.0));
  value.sum = value.sum.detach();
  for (auto& [name, number] : value.scalars) number = number.detach();
  gradient_ = leaf.grad();
  return value;
}

void LongClip::backward(const Microbatch& chunk, const ChunkPlace& place) {
  if (!gradient_.defined()) return;
  model_.set_training(options_.training);
  MicrobatchPass pass(options_.training, keys_of(chunk, place), {options_.segments, {}, options_.observer});
  const at::Tensor own = run_encoder(chunk, place, pass);
  if (own.requires_grad()) own.backward(gradient_.narrow(2, place.begin / stride_, own.size(2)));
}

}  // namespace sluice
