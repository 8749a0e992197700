// From the samples of a logical batch to the tensors of a microbatch: uint8 frames become normalised floats in the network's
// layout in one pass, straight from the samples' own memory; other arrays are stacked, what varies is padded.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <c10/core/Device.h>

#include <sluice/info.hpp>
#include <sluice/torch/tensors.hpp>

#include "framework/config/pipeline.hpp"
#include "framework/flow/feed.hpp"

namespace sluice {

struct Microbatch {
  Inputs inputs;                    // all streams, on the device
  Inputs host;                      // those that are no video, and lengths, on the CPU
  std::vector<std::uint64_t> keys;  // of the samples, for what draws by sample
  std::int64_t clips = 0;
};

class Assembler {
 public:
  struct Options {
    std::vector<std::pair<std::string, Info>> streams;  // that reach the trainer, with what varies
    InputConfig input;
    at::Device device{at::kCPU};
    bool on_device = false;  // convert with operations of the device, as for a GPU, also where the device is the CPU
  };
  // Throws Error(Code::configuration) when mean and std do not fit the channels.
  explicit Assembler(Options options);

  // Extents that every sample of a logical batch is padded to, by stream; the same for all of its microbatches.
  using Extents = std::vector<Shape>;
  [[nodiscard]] Extents extents(std::span<const FinishedSample> logical_batch) const;
  // At the largest shapes that were declared.
  [[nodiscard]] Extents largest() const;
  // The same with so many frames in every video.
  [[nodiscard]] Extents with_frames(std::int64_t frames) const;

  // Throws Error(Code::plugin) when a sample lacks a stream or has another type or shape than was declared.
  [[nodiscard]] Microbatch assemble(std::span<const FinishedSample> samples, const Extents& extents) const;
  // The same of zeros, for measuring.
  [[nodiscard]] Microbatch zeros(std::int64_t clips, const Extents& extents) const;

 private:
  struct Stream {
    std::string name;
    Info info;
    bool video = false;
    bool has_lengths = false;
    std::vector<float> table;  // of a video: value of byte v in channel c at [c * 256 + v]
    std::vector<float> mean, deviation;
  };
  [[nodiscard]] at::Tensor video(const Stream& stream, std::span<const Array* const> arrays, const Shape& extents) const;
  [[nodiscard]] at::Tensor video_on_device(const Stream& stream, std::span<const Array* const> arrays, const Shape& extents) const;
  [[nodiscard]] Microbatch from_tensors(std::vector<std::pair<const Stream*, at::Tensor>> made, std::vector<at::Tensor> lengths) const;

  std::vector<Stream> streams_;
  at::Device device_;
  bool on_device_;
  bool channels_last_;
};

}  // namespace sluice
