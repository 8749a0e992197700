// backbone.small: strided 3x3x3 convolutions, each with GroupNorm and ReLU.
#include <memory>
#include <string>
#include <vector>

#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/normalization.h>

#include <sluice/torch/module.hpp>
#include <sluice/torch/plugin.hpp>

namespace {

// GroupNorm looks at one clip alone, so a batch may be cut into microbatches of any size and the result stays the same.
struct Layer : torch::nn::Module {
  Layer(std::int64_t in, std::int64_t out, std::int64_t time_stride)
      : conv(register_module("conv", torch::nn::Conv3d(torch::nn::Conv3dOptions(in, out, 3).stride({time_stride, 2, 2}).padding(1).bias(false)))),
        norm(register_module("norm", torch::nn::GroupNorm(torch::nn::GroupNormOptions(4, out)))) {}
  at::Tensor forward(const at::Tensor& x) { return norm->forward(conv->forward(x)).relu_(); }

  torch::nn::Conv3d conv;
  torch::nn::GroupNorm norm;
};

class Small : public sluice::Module<sluice::Backbone> {
 public:
  Small(std::int64_t clip_channels, std::int64_t width, std::int64_t depth) {
    for (std::int64_t i = 0; i < depth; ++i, clip_channels = width, width *= 2)
      layers_.push_back(register_module("layer" + std::to_string(i + 1), std::make_shared<Layer>(clip_channels, width, i == 0 ? 1 : 2)));
    channels_ = clip_channels;
  }
  // A segment is a piece that may be run again in the backward pass to save memory: it captures by value.
  at::Tensor forward(const at::Tensor& clip, sluice::Pass& pass) override {
    at::Tensor x = clip;
    for (std::size_t i = 0; i < layers_.size(); ++i)
      x = pass.segment("layer" + std::to_string(i + 1), [layer = layers_[i]](const at::Tensor& in) { return layer->forward(in); }, x);
    return x;
  }
  std::int64_t channels() const override { return channels_; }

 private:
  std::vector<std::shared_ptr<Layer>> layers_;
  std::int64_t channels_ = 0;
};

struct Recipe {
  std::int64_t width = 16;
  std::int64_t depth = 4;
  static constexpr std::string_view help = "a few strided convolutions with GroupNorm";
  static constexpr auto fields = sluice::fields(
      sluice::field(&Recipe::width, "width", "channels of the first layer, doubled by each further one", sluice::at_least(4)),
      sluice::field(&Recipe::depth, "depth", "number of layers, each of which halves height and width", sluice::range(1, 6)));

  void check() const {
    if (width % 4 != 0) throw sluice::Error(sluice::Code::configuration, "width must be a multiple of 4, the number of groups of GroupNorm");
  }
  std::unique_ptr<sluice::Backbone> build(const sluice::BackboneContext& clip) const {
    return std::make_unique<Small>(clip.channels, width, depth);
  }
};

}  // namespace

SLUICE_BACKBONE(Recipe, "backbone.small");
