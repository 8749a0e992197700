// 3D ResNets for video: Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition" (CVPR 2018).
// Layout, names of weights and initialisation are those of torchvision.models.video, so its published weights load by name.
#include <memory>
#include <string>
#include <vector>

#include <sluice/torch/module.hpp>
#include <sluice/torch/plugin.hpp>

#include <ATen/ops/max_pool3d.h>

#include "layers.hpp"

namespace sluice::backbone {
namespace {

// How a 3x3x3 convolution is made: as it is, without time (MC3, all stages but the first), or as space and then time.
enum class Form { full, spatial, factored };

struct Shape {
  std::int64_t blocks, channels;
  Size3 stride;
  Form form;
};

struct Layout {
  std::int64_t clip_channels = 3, stem_channels = 64;
  Size3 stem_kernel{3, 7, 7}, stem_stride{1, 2, 2};
  bool stem_factored = false, stem_pool = false, bottleneck = false, zero_init_residual = false;
  std::vector<Shape> stages;
};

// `between` are the channels after the spatial half of a factored convolution.
void add_convolution(Chain& chain, Form form, std::int64_t in, std::int64_t out, std::int64_t between, Size3 stride) {
  if (form == Form::full) chain.add(std::make_shared<Convolution>(in, out, Size3{3, 3, 3}, stride));
  else if (form == Form::spatial) chain.add(std::make_shared<Convolution>(in, out, Size3{1, 3, 3}, stride));
  else {
    auto pair = std::make_shared<Chain>();
    pair->add(std::make_shared<Convolution>(in, between, Size3{1, 3, 3}, Size3{1, stride[1], stride[2]}));
    pair->add(batch_norm(between));
    pair->relu();
    pair->add(std::make_shared<Convolution>(between, out, Size3{3, 1, 1}, Size3{stride[0], 1, 1}));
    chain.add(pair);
  }
}

class Block : public Residual {
 public:
  Block(std::int64_t in, const Shape& shape, Size3 stride, bool bottleneck, bool zero_init) {
    const auto width = shape.channels, out = bottleneck ? width * 4 : width;
    // As many weights as the 3x3x3 convolution would have; torchvision takes the block's own input for all of its convolutions.
    const auto between = in * width * 27 / (in * 9 + 3 * width);
    const auto unit = [&](std::int64_t kernel, std::int64_t from, std::int64_t to, Size3 by, bool last) {
      auto chain = std::make_shared<Chain>();
      if (kernel == 1) chain->add(std::make_shared<Convolution>(from, to, Size3{1, 1, 1}, by));
      else add_convolution(*chain, shape.form, from, to, between, by);
      chain->add(batch_norm(to, last && zero_init));
      if (!last) chain->relu();
      body_.push_back(register_module("conv" + std::to_string(body_.size() + 1), chain));
    };
    constexpr Size3 one{1, 1, 1};
    if (bottleneck) {
      unit(1, in, width, one, false);
      unit(3, width, width, stride, false);
      unit(1, width, out, one, true);
    } else {
      unit(3, in, width, stride, false);
      unit(3, width, width, one, true);
    }
    if (stride != one || in != out) {
      shortcut_ = register_module("downsample", std::make_shared<Chain>());
      shortcut_->add(std::make_shared<Convolution>(in, out, one, stride));
      shortcut_->add(batch_norm(out));
    }
  }
};

class R3d : public Module<Backbone> {
 public:
  explicit R3d(const Layout& layout) : stem_(register_module("stem", std::make_shared<Chain>())), channels_(layout.stem_channels) {
    const auto [time, height, width] = layout.stem_kernel;
    if (layout.stem_factored) {
      const auto between = layout.stem_channels * 45 / 64;  // 45 of 64 in the published network
      stem_->add(std::make_shared<Convolution>(layout.clip_channels, between, Size3{1, height, width}, Size3{1, layout.stem_stride[1], layout.stem_stride[2]}));
      stem_->add(batch_norm(between));
      stem_->relu();
      stem_->add(std::make_shared<Convolution>(between, channels_, Size3{time, 1, 1}, Size3{layout.stem_stride[0], 1, 1}));
    } else {
      stem_->add(std::make_shared<Convolution>(layout.clip_channels, channels_, layout.stem_kernel, layout.stem_stride));
    }
    stem_->add(batch_norm(channels_));
    stem_->relu();
    if (layout.stem_pool) stem_->apply([](const at::Tensor& x) { return at::max_pool3d(x, {1, 3, 3}, {1, 2, 2}, {0, 1, 1}); });

    for (const auto& shape : layout.stages) {
      auto stage = std::make_shared<Chain>();
      for (std::int64_t i = 0; i < shape.blocks; ++i) {
        stage->add(std::make_shared<Block>(channels_, shape, i == 0 ? shape.stride : Size3{1, 1, 1}, layout.bottleneck, layout.zero_init_residual));
        channels_ = layout.bottleneck ? shape.channels * 4 : shape.channels;
      }
      stages_.push_back(register_module("layer" + std::to_string(stages_.size() + 1), stage));
    }
  }

  at::Tensor forward(const at::Tensor& clip, Pass& pass) override {
    at::Tensor x = pass.segment("stem", [stem = stem_](const at::Tensor& in) { return stem->forward(in); }, clip);
    for (std::size_t i = 0; i < stages_.size(); ++i)
      x = stages_[i]->forward(x, pass, "layer" + std::to_string(i + 1));
    return x;
  }
  std::int64_t channels() const override { return channels_; }
  std::string head_name() const override { return "fc"; }

 private:
  std::shared_ptr<Chain> stem_;
  std::vector<std::shared_ptr<Chain>> stages_;
  std::int64_t channels_;
};

struct Recipe {
  static constexpr std::string_view help = "3D ResNet of any depth and width; presets: backbone.r3d_18, mc3_18, r2plus1d_18";
  std::int64_t depth = 18;
  std::vector<std::int64_t> layers;
  Text block = "auto";
  Text convolution = "3d";
  std::int64_t width = 64;
  std::int64_t stem_channels = 0;
  std::vector<std::int64_t> stem_kernel = {3, 7, 7};
  std::vector<std::int64_t> stem_stride = {1, 2, 2};
  bool stem_pool = false;
  std::vector<std::int64_t> temporal_strides;
  std::vector<std::int64_t> spatial_strides;
  bool zero_init_residual = false;

  static constexpr auto fields = sluice::fields(
      field(&Recipe::depth, "depth", "10, 18, 34 (basic blocks), 50, 101 or 152 (bottlenecks); `layers` wins over it", range(10, 152)),
      field(&Recipe::layers, "layers", "blocks in each stage, e.g. [1, 1, 1, 1]; empty: those of `depth`"),
      field(&Recipe::block, "block", "basic: two 3x3x3 convolutions; bottleneck: 1, 3, 1 and four times the channels; auto: as `depth` has it", one_of("auto|basic|bottleneck")),
      field(&Recipe::convolution, "convolution", "3d; mc3: no time after the first stage; 2plus1d: space, then time", one_of("3d|mc3|2plus1d")),
      field(&Recipe::width, "width", "channels of the first stage; each further stage has twice as many", at_least(1)),
      field(&Recipe::stem_channels, "stem_channels", "channels after the stem; 0: as `width`", at_least(0)),
      field(&Recipe::stem_kernel, "stem_kernel", "kernel of the stem: time, height, width; odd"),
      field(&Recipe::stem_stride, "stem_stride", "stride of the stem: time, height, width"),
      field(&Recipe::stem_pool, "stem_pool", "max-pool 3x3 by 2 in space after the stem"),
      field(&Recipe::temporal_strides, "temporal_strides", "stride in time of each stage; empty: 1, then 2 (mc3: 1)"),
      field(&Recipe::spatial_strides, "spatial_strides", "stride in space of each stage; empty: 1, then 2"),
      field(&Recipe::zero_init_residual, "zero_init_residual", "the last BatchNorm of a block starts at zero: a block starts as the identity"));

  [[nodiscard]] std::vector<std::int64_t> blocks() const {
    if (!layers.empty()) return layers;
    switch (depth) {
      case 10: return {1, 1, 1, 1};
      case 18: return {2, 2, 2, 2};
      case 34:
      case 50: return {3, 4, 6, 3};
      case 101: return {3, 4, 23, 3};
      case 152: return {3, 8, 36, 3};
      default: throw Error(Code::configuration, "there is no 3D ResNet of depth " + std::to_string(depth), "depth = 10, 18, 34, 50, 101 or 152, or give `layers`");
    }
  }

  void check() const {
    const auto stages = blocks().size();
    const auto each = [](const std::vector<std::int64_t>& values, std::size_t size, const std::string& name) {
      if (values.size() != size) throw Error(Code::configuration, name + " has " + std::to_string(values.size()) + " numbers, not " + std::to_string(size));
      for (const auto value : values)
        if (value < 1 || value > 4096) throw Error(Code::configuration, name + " has a number that is not in 1 to 4096");
    };
    if (stages > 6) throw Error(Code::configuration, "layers has more than 6 stages");
    each(blocks(), stages, "layers");
    each(stem_kernel, 3, "stem_kernel");
    each(stem_stride, 3, "stem_stride");
    for (const auto extent : stem_kernel)
      if (extent % 2 == 0) throw Error(Code::configuration, "stem_kernel has an even number", "odd kernels keep the frames in place, e.g. [3, 7, 7]");
    if (!temporal_strides.empty()) each(temporal_strides, stages, "temporal_strides");
    if (!spatial_strides.empty()) each(spatial_strides, stages, "spatial_strides");
  }

  std::unique_ptr<Backbone> build(const BackboneContext& context) const {
    check();
    Layout layout;
    layout.clip_channels = context.channels;
    layout.stem_channels = stem_channels > 0 ? stem_channels : width;
    std::copy_n(stem_kernel.begin(), 3, layout.stem_kernel.begin());
    std::copy_n(stem_stride.begin(), 3, layout.stem_stride.begin());
    layout.stem_factored = convolution == "2plus1d";
    layout.stem_pool = stem_pool;
    layout.bottleneck = block == "bottleneck" || (block == "auto" && layers.empty() && depth >= 50);
    layout.zero_init_residual = zero_init_residual;
    const auto count = blocks();
    for (std::size_t i = 0; i < count.size(); ++i) {
      const bool timeless = convolution == "mc3" && i > 0;
      const auto space = spatial_strides.empty() ? (i == 0 ? 1 : 2) : spatial_strides[i];
      const auto time = temporal_strides.empty() ? (i == 0 || timeless ? 1 : 2) : temporal_strides[i];
      layout.stages.push_back({count[i], width << i, {time, space, space},
                               convolution == "2plus1d" ? Form::factored : timeless ? Form::spatial : Form::full});
    }
    return std::make_unique<R3d>(layout);
  }
};

// The published networks: nothing to choose but how they start.
template <int number> struct Preset {
  static constexpr std::string_view names[] = {"3d", "mc3", "2plus1d"};
  static constexpr std::string_view helps[] = {"r3d_18 of torchvision: 3D ResNet-18 (33.4 M weights with 400 classes)",
                                               "mc3_18 of torchvision: 3D in the first stage, 2D after it (11.7 M)",
                                               "r2plus1d_18 of torchvision: each convolution in space, then in time (31.5 M)"};
  static constexpr std::string_view help = helps[number];
  bool zero_init_residual = false;
  static constexpr auto fields = sluice::fields(
      field(&Preset::zero_init_residual, "zero_init_residual", "the last BatchNorm of a block starts at zero: a block starts as the identity"));

  std::unique_ptr<Backbone> build(const BackboneContext& context) const {
    Recipe recipe;
    recipe.convolution = names[number];
    recipe.zero_init_residual = zero_init_residual;
    return recipe.build(context);
  }
};

}  // namespace
}  // namespace sluice::backbone

SLUICE_BACKBONE(sluice::backbone::Recipe, "backbone.r3d");
SLUICE_BACKBONE(sluice::backbone::Preset<0>, "backbone.r3d_18");
SLUICE_BACKBONE(sluice::backbone::Preset<1>, "backbone.mc3_18");
SLUICE_BACKBONE(sluice::backbone::Preset<2>, "backbone.r2plus1d_18");
