// Slow: the slow pathway of SlowFast on its own. Feichtenhofer et al., "SlowFast Networks for Video Recognition" (ICCV 2019).
// Layout, names of weights and initialisation are those of pytorchvideo's slow_r50, so its published weights load by name.
#include <memory>
#include <string>
#include <vector>

#include <sluice/torch/module.hpp>
#include <sluice/torch/plugin.hpp>

#include <ATen/ops/max_pool3d.h>

#include "layers.hpp"

namespace sluice::backbone {
namespace {

constexpr Size3 one{1, 1, 1};

class Block : public Residual {
 public:
  // Time is seen by the first convolution (`temporal` frames), space by the second, which also strides.
  Block(std::int64_t in, std::int64_t width, std::int64_t temporal, std::int64_t stride, bool zero_init) {
    const auto out = width * 4;
    if (in != out || stride != 1) {
      shortcut_ = std::make_shared<Chain>();  // holds the order only: its layers are children of the block itself
      shortcut_->add(register_module("branch1_conv", std::make_shared<Convolution>(in, out, one, Size3{1, stride, stride})));
      shortcut_->add(register_module("branch1_norm", batch_norm(out)));
    }
    auto branch = register_module("branch2", std::make_shared<Chain>());
    branch->add("conv_a", std::make_shared<Convolution>(in, width, Size3{temporal, 1, 1}, one));
    branch->add("norm_a", batch_norm(width));
    branch->relu();
    branch->add("conv_b", std::make_shared<Convolution>(width, width, Size3{1, 3, 3}, Size3{1, stride, stride}));
    branch->add("norm_b", batch_norm(width));
    branch->relu();
    branch->add("conv_c", std::make_shared<Convolution>(width, out, one, one));
    branch->add("norm_c", batch_norm(out, zero_init));
    body_.push_back(branch);
  }
};

// A stage of the published network is blocks.S.res_blocks.B.
class Stage : public torch::nn::Module {
 public:
  Stage() : blocks_(register_module("res_blocks", std::make_shared<Chain>())) {}
  void add(std::shared_ptr<Block> block) { blocks_->add(std::move(block)); }
  at::Tensor forward(const at::Tensor& x, Pass& pass, const std::string& name) const { return blocks_->forward(x, pass, name + ".res_blocks"); }

 private:
  std::shared_ptr<Chain> blocks_;
};

class SlowR50 : public Module<Backbone> {
 public:
  SlowR50(std::int64_t clip_channels, bool zero_init) {
    auto all = register_module("blocks", std::make_shared<torch::nn::Module>());
    stem_ = all->register_module("0", std::make_shared<Chain>());
    stem_->add("conv", std::make_shared<Convolution>(clip_channels, 64, Size3{1, 7, 7}, Size3{1, 2, 2}));
    stem_->add("norm", batch_norm(64));
    stem_->relu();
    stem_->apply([](const at::Tensor& x) { return at::max_pool3d(x, {1, 3, 3}, {1, 2, 2}, {0, 1, 1}); });

    constexpr std::int64_t blocks[] = {3, 4, 6, 3}, temporal[] = {1, 1, 3, 3}, strides[] = {1, 2, 2, 2};
    std::int64_t channels = 64;
    for (std::size_t i = 0; i < 4; ++i) {
      auto stage = all->register_module(std::to_string(i + 1), std::make_shared<Stage>());
      const auto width = std::int64_t{64} << i;
      for (std::int64_t b = 0; b < blocks[i]; ++b) {
        stage->add(std::make_shared<Block>(channels, width, temporal[i], b == 0 ? strides[i] : 1, zero_init));
        channels = width * 4;
      }
      stages_.push_back(stage);
    }
  }

  at::Tensor forward(const at::Tensor& clip, Pass& pass) override {
    at::Tensor x = pass.segment("blocks.0", [stem = stem_](const at::Tensor& in) { return stem->forward(in); }, clip);
    for (std::size_t i = 0; i < stages_.size(); ++i)
      x = stages_[i]->forward(x, pass, "blocks." + std::to_string(i + 1));
    return x;
  }
  std::int64_t channels() const override { return 2048; }
  std::string head_name() const override { return "blocks.5.proj"; }

 private:
  std::shared_ptr<Chain> stem_;
  std::vector<std::shared_ptr<Stage>> stages_;
};

struct Recipe {
  static constexpr std::string_view help = "Slow ResNet-50 of pytorchvideo (32.5 M weights with 400 classes); made for 8 frames, 8 apart, and head dropout 0.5";
  bool zero_init_residual = true;
  static constexpr auto fields = sluice::fields(
      field(&Recipe::zero_init_residual, "zero_init_residual", "the last BatchNorm of a block starts at zero: a block starts as the identity"));

  std::unique_ptr<Backbone> build(const BackboneContext& context) const {
    return std::make_unique<SlowR50>(context.channels, zero_init_residual);
  }
};

}  // namespace
}  // namespace sluice::backbone

SLUICE_BACKBONE(sluice::backbone::Recipe, "backbone.slow_r50");
