// Network: whatever has weights. Backbone, Head and Model are its kinds. Light: no torch/nn.h; see module.hpp for that.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <sluice/info.hpp>
#include <sluice/torch/pass.hpp>
#include <sluice/torch/tensors.hpp>

namespace sluice {

class Network {
 public:
  virtual ~Network() = default;
  // Trained tensors by name, in a fixed order; the names are those of published weights where there are any.
  [[nodiscard]] virtual std::vector<NamedTensor> weights() = 0;
  // Tensors that are saved but not trained, e.g. running statistics.
  [[nodiscard]] virtual std::vector<NamedTensor> statistics() = 0;
  virtual void set_training(bool training) = 0;
  virtual void move_to(at::Device device) = 0;
  // Number of layers that take statistics over the batch (BatchNorm); with `freeze` they use the running ones from now on.
  virtual std::int64_t batch_norms(bool freeze) = 0;
};

class Backbone : public Network {
 public:
  // clip: float [B, C, T, H, W]; returns features [B, channels(), T', H', W'].
  [[nodiscard]] virtual at::Tensor forward(const at::Tensor& clip, Pass& pass) = 0;
  [[nodiscard]] virtual std::int64_t channels() const = 0;
  // The prefix under which published weights hold the head, e.g. "fc".
  [[nodiscard]] virtual std::string head_name() const { return "head"; }
};

class Head : public Network {
 public:
  // features [B, C, T, H, W] -> logits [B, classes].
  [[nodiscard]] virtual at::Tensor forward(const at::Tensor& features, Pass& pass) = 0;
};

// A model gives forward(), or, for videos of any length, encode(), head() and temporal_radius(): then the runtime may encode a clip
// chunk by chunk, so that memory does not grow with its length, and the gradient is that of forward().
class Model : public Network {
 public:
  [[nodiscard]] virtual Outputs forward(const Inputs& inputs, Pass& pass) { return head(encode(inputs, pass), inputs, pass); }

  // Frames that a feature sees on each side of its own; checked before it is trusted. Nothing: clips go through whole.
  [[nodiscard]] virtual std::optional<std::int64_t> temporal_radius() const { return std::nullopt; }
  // Frames of a feature: feature t is that of frames [t x stride, (t + 1) x stride), and T frames have T / stride of them, rounded up.
  [[nodiscard]] virtual std::int64_t temporal_stride() const { return 1; }
  // `chunk`: video streams [B, C, T, H, W], of pieces of clips. Returns [B, channels, features], or with further axes behind.
  [[nodiscard]] virtual at::Tensor encode(const Inputs& chunk, Pass& pass) {
    static_cast<void>(chunk), static_cast<void>(pass);
    throw Error(Code::plugin, "the model has neither forward() nor encode()", "a model gives forward(), or encode(), head() and temporal_radius()");
  }
  // `features`: of whole clips; `inputs`: the streams that are no video.
  [[nodiscard]] virtual Outputs head(const at::Tensor& features, const Inputs& inputs, Pass& pass) {
    static_cast<void>(features), static_cast<void>(inputs), static_cast<void>(pass);
    throw Error(Code::plugin, "the model has encode() and no head()", "a model gives forward(), or encode(), head() and temporal_radius()");
  }
};

// What build() receives of the surroundings.
struct BackboneContext {
  std::int64_t channels = 3;  // of the clip
  std::int64_t frames = 0, height = 0, width = 0;  // 0: not known
};
struct HeadContext {
  std::int64_t channels = 0;         // of the backbone's features
  std::vector<std::string> classes;  // of the source
};
struct ModelContext {
  std::vector<std::string> classes;     // of the source
  std::map<std::string, Info> streams;  // that reach the model, before they are stacked
};

}  // namespace sluice
