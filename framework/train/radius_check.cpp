// Experiments on a clip that is long enough to see a radius several times the declared one.
#include "framework/train/radius_check.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/randn.h>
#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/train/lost_device.hpp"
#include "framework/train/pass.hpp"

namespace sluice {
namespace {

constexpr double rounding = 1e-6;      // of the largest feature: the same kernel at the same place gives the same number
constexpr double other_kernel = 1e-4;  // clips of another length may be computed in another order

at::Tensor random_like(const at::Tensor& tensor, at::Generator& generator) {
  return at::randn(tensor.sizes(), generator, at::TensorOptions(at::kFloat)).to(tensor.options());
}

// Layers that start as zeros hide what they see; every weight is moved a little meanwhile.
class ShakenWeights {
 public:
  ShakenWeights(Model& model, at::Generator& generator) {
    for (auto& item : model.weights()) {
      if (!item.tensor.is_floating_point() || item.tensor.numel() == 0) continue;
      live_.push_back(item.tensor);
      before_.push_back(item.tensor.clone());
      const double scale = 0.1 * std::max(0.3, item.tensor.square().mean().sqrt().item<double>());
      item.tensor.add_(random_like(item.tensor, generator), scale);
    }
  }
  ~ShakenWeights() {
    put_back([this] {
      for (std::size_t i = 0; i < live_.size(); ++i) live_[i].copy_(before_[i]);
    });
  }
  ShakenWeights(const ShakenWeights&) = delete;
  ShakenWeights& operator=(const ShakenWeights&) = delete;

 private:
  std::vector<at::Tensor> live_, before_;
};

class SavedStatistics {
 public:
  explicit SavedStatistics(Model& model) : all_(model.statistics()) {
    for (const auto& item : all_) before_.push_back(item.tensor.clone());
  }
  ~SavedStatistics() {
    put_back([this] {
      for (std::size_t i = 0; i < all_.size(); ++i) all_[i].tensor.copy_(before_[i]);
    });
  }
  SavedStatistics(const SavedStatistics&) = delete;
  SavedStatistics& operator=(const SavedStatistics&) = delete;
  // The first that is no longer what it was; empty: none.
  [[nodiscard]] std::string moved() const {
    for (std::size_t i = 0; i < all_.size(); ++i)
      if (!all_[i].tensor.equal(before_[i])) return all_[i].name;
    return {};
  }

 private:
  std::vector<NamedTensor> all_;
  std::vector<at::Tensor> before_;
};

class Experiment {
 public:
  Experiment(Model& model, const Assembler& assembler, const Chunking& chunking)
      : model_(model), radius_(model.temporal_radius().value_or(0)), stride_(model.temporal_stride()), halo_(chunking.halo),
        frames_(4 * halo_ + 16 * stride_ + (stride_ > 1 ? 1 : 0)), generator_(at::detail::createCPUGenerator(20261121)) {
    const Microbatch zeros = assembler.zeros(1, assembler.with_frames(frames_));
    for (const auto& [name, tensor] : zeros.inputs)
      if (!zeros.host.has(name)) clip_.set(name, random_like(tensor, generator_));
  }

  void run() {
    const ShakenWeights shaken(model_, generator_);
    const SavedStatistics statistics(model_);
    model_.set_training(true);
    whole_ = encode(clip_);
    if (const auto moved = statistics.moved(); !moved.empty())
      throw Error(Code::plugin, fmt::format("encode() takes statistics over its chunk: {} moves in training, and chunks would change what is learnt", moved),
                  "use model.batch_norm = \"frozen\", or a norm of each frame by itself");
    const auto features = (frames_ + stride_ - 1) / stride_;
    if (whole_.dim() < 3 || whole_.size(0) != 1 || whole_.size(2) != features)
      throw Error(Code::plugin, fmt::format("encode() made features of shape {} of {} frames, where {} along axis 2 were declared", shape_text(whole_), frames_, features),
                  "features have the axes [clip, channels, time, ...], and temporal_stride() frames each, rounded up");
    largest_ = whole_.abs().max().item<double>();
    if (differing(encode(clip_), whole_, 0).any().item<bool>())
      throw Error(Code::plugin, "encode() makes other features of the same clip the second time", "draw random numbers by pass.dropout(x, p), whose draws follow the sample");
    check_reach();
    check_chunks();
  }

 private:
  [[nodiscard]] static std::string shape_text(const at::Tensor& tensor) {
    std::string text = "[";
    for (std::int64_t i = 0; i < tensor.dim(); ++i) text += fmt::format("{}{}", i ? ", " : "", tensor.size(i));
    return text + "]";
  }
  [[nodiscard]] at::Tensor encode(const Inputs& clip) const {
    MicrobatchPass pass(false, {1});
    return model_.encode(clip, pass).to(at::kCPU, at::kDouble);
  }
  // By feature: whether any of its numbers differ.
  [[nodiscard]] at::Tensor differing(const at::Tensor& a, const at::Tensor& b, double tolerance) const {
    return ((a - b).abs() > tolerance * largest_).transpose(0, 2).flatten(1).any(1);
  }

  void check_reach() {
    std::int64_t seen = 0;
    for (std::int64_t frame = frames_ / 2; frame < frames_ / 2 + std::min<std::int64_t>(stride_, 4); ++frame) {
      Inputs changed;
      for (const auto& [name, tensor] : clip_) {
        at::Tensor copy = tensor.clone();
        at::Tensor one = copy.select(2, frame);
        one.copy_(random_like(one, generator_) * 3);
        changed.set(name, copy);
      }
      const at::Tensor differs = differing(encode(changed), whole_, rounding);
      for (std::int64_t t = 0; t < differs.size(0); ++t) {
        if (!differs[t].item<bool>()) continue;
        const auto first = t * stride_, last = first + stride_ - 1;
        seen = std::max({seen, first - frame, frame - last});
      }
    }
    if (seen <= radius_) return;
    const auto visible = frames_ / 2 - stride_;
    throw Error(Code::plugin, fmt::format("the model declares a temporal radius of {}, and its features see {} frames to a side{}", radius_, seen, seen >= visible ? " or more" : ""),
                seen >= visible ? "a norm over time sees the whole clip: use one of each frame by itself; or declare the radius that temporal_radius() really is"
                                : fmt::format("temporal_radius() = {}: half of each kernel along time, times the stride before it, summed over the layers", seen));
  }

  void check_chunks() {
    const Chunking chunking{(frames_ / 3 + stride_ - 1) / stride_ * stride_, halo_};
    for (std::int64_t i = 0; i < chunks_of(frames_, chunking); ++i) {
      const auto place = chunk_at(frames_, chunking, i);
      Inputs piece;
      for (const auto& [name, tensor] : clip_) piece.set(name, tensor.narrow(2, place.first, place.last - place.first).clone(tensor.suggest_memory_format()));
      const auto count = (place.end - place.begin + stride_ - 1) / stride_;
      const at::Tensor features = encode(piece);
      const auto skipped = (place.begin - place.first) / stride_;
      if (features.dim() == whole_.dim() && features.size(2) >= skipped + count &&
          !differing(features.narrow(2, skipped, count), whole_.narrow(2, place.begin / stride_, count), other_kernel).any().item<bool>())
        continue;
      throw Error(Code::plugin, fmt::format("encode() makes other features of frames {} to {} when it sees them with {} around them than in the whole clip", place.begin, place.end - 1, halo_),
                  "a feature may depend on the frames around it alone, not on its place in what encode() is given, nor on how many frames that is");
    }
  }

  Model& model_;
  std::int64_t radius_, stride_, halo_, frames_;
  at::Generator generator_;
  Inputs clip_;
  at::Tensor whole_;
  double largest_ = 0;
};

}  // namespace

void check_radius(Model& model, const Assembler& assembler, const Chunking& chunking) {
  const at::NoGradGuard no_grad;
  Experiment(model, assembler, chunking).run();
}

}  // namespace sluice
