// A recognizer of long videos: small convolutions see a few frames each, and a head that attends to a few moments of the whole video reads
// what is there and when. What it needs of a video beside its features does not grow with the video.
#include <memory>
#include <string>
#include <vector>

#include <torch/nn/init.h>

#include <sluice/torch/module.hpp>
#include <sluice/torch/plugin.hpp>

#include <ATen/ops/adaptive_max_pool1d.h>
#include <ATen/ops/avg_pool3d.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/conv3d.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>

namespace {

struct Sizes {
  std::int64_t channels = 3, shrink = 2, width = 8, layers = 2, heads = 8, segments = 64, classes = 0;
};

class LongRecognizer : public sluice::Module<sluice::Model> {
 public:
  LongRecognizer(const Sizes& sizes, std::string stream) : sizes_(sizes), stream_(std::move(stream)) {
    std::int64_t in = sizes.channels;
    for (std::int64_t i = 0; i < sizes.layers; ++i) {
      const std::string name = "conv" + std::to_string(i + 1);
      weights_.push_back(register_parameter(name + "_weight", torch::empty({sizes.width, in, 3, 3, 3})));
      biases_.push_back(register_parameter(name + "_bias", torch::zeros({sizes.width})));
      torch::nn::init::kaiming_normal_(weights_.back(), 0, torch::kFanIn, torch::kReLU);
      in = sizes.width;
    }
    look_ = register_parameter("look", torch::empty({sizes.heads, in, 1}));
    hidden_ = register_parameter("hidden_weight", torch::empty({hidden_units, sizes.heads * (in + 1)}));
    hidden_bias_ = register_parameter("hidden_bias", torch::zeros({hidden_units}));
    out_ = register_parameter("out_weight", torch::empty({sizes.classes, hidden_units}));
    out_bias_ = register_parameter("out_bias", torch::zeros({sizes.classes}));
    torch::nn::init::normal_(look_, 0.0, 1.0);
    torch::nn::init::kaiming_normal_(hidden_, 0, torch::kFanIn, torch::kReLU);
    torch::nn::init::normal_(out_, 0.0, 0.05);
  }

  [[nodiscard]] std::optional<std::int64_t> temporal_radius() const override { return sizes_.layers; }

  at::Tensor encode(const sluice::Inputs& chunk, sluice::Pass& pass) override {
    at::Tensor x = chunk.get(stream_);
    if (x.dim() != 5) throw sluice::Error(sluice::Code::configuration, "model.long_recognizer wants a video in '" + stream_ + "'", "name a video stream: stream = \"clip\"");
    if (sizes_.shrink > 1) x = at::avg_pool3d(x, {1, sizes_.shrink, sizes_.shrink});
    for (std::size_t i = 0; i < weights_.size(); ++i)
      x = pass.segment("conv" + std::to_string(i + 1), [weight = weights_[i], bias = biases_[i]](const at::Tensor& in) { return at::conv3d(in, weight, bias, {1, 2, 2}, 1).relu_(); }, x);
    return x.mean({3, 4});
  }

  sluice::Outputs head(const at::Tensor& features, const sluice::Inputs&, sluice::Pass& pass) override {
    const at::Tensor logits = pass.segment("head", [this](const at::Tensor& all) {
      // The strongest of each stretch: a flash of some frames is not lost among thousands.
      const at::Tensor strongest = std::get<0>(at::adaptive_max_pool1d(all, sizes_.segments));                                    // [B, C, S]
      const at::Tensor when = at::linspace(-1, 1, sizes_.segments, all.options()).expand({all.size(0), 1, sizes_.segments});  // [B, 1, S]
      const at::Tensor where_to_look = at::softmax(at::conv1d(strongest, look_), 2);                                              // [B, K, S]
      const at::Tensor read = at::matmul(where_to_look, at::cat({strongest, 4 * when}, 1).transpose(1, 2)).flatten(1);           // [B, K x (C + 1)]
      return at::linear(at::linear(read, hidden_, hidden_bias_).relu(), out_, out_bias_);
    }, features);
    sluice::Outputs outputs;
    outputs.set("logits", logits);
    return outputs;
  }

 private:
  static constexpr std::int64_t hidden_units = 64;
  Sizes sizes_;
  std::string stream_;
  std::vector<at::Tensor> weights_, biases_;
  at::Tensor look_, hidden_, hidden_bias_, out_, out_bias_;
};

struct Recipe {
  static constexpr std::string_view help = "classifies videos of any length: convolutions over a few frames, then attention to moments of the whole video";
  std::int64_t shrink = 2;
  std::int64_t width = 8;
  std::int64_t layers = 2;
  std::int64_t heads = 8;
  std::int64_t segments = 64;
  sluice::Text stream = "clip";
  static constexpr auto fields = sluice::fields(
      sluice::field(&Recipe::shrink, "shrink", "frames are averaged over squares of so many pixels a side first", sluice::range(1, 64)),
      sluice::field(&Recipe::width, "width", "channels of each convolution", sluice::range(1, 4096)),
      sluice::field(&Recipe::layers, "layers", "convolutions of 3 x 3 x 3, each of which halves height and width and sees a frame more to each side", sluice::range(1, 8)),
      sluice::field(&Recipe::heads, "heads", "moments that it attends to", sluice::range(1, 256)),
      sluice::field(&Recipe::segments, "segments", "stretches of the video of each of which the strongest features are kept", sluice::range(1, 4096)),
      sluice::field(&Recipe::stream, "stream", "video stream that it looks at"));

  std::unique_ptr<sluice::Model> build(const sluice::ModelContext& context) const {
    Sizes sizes{3, shrink, width, layers, heads, segments, static_cast<std::int64_t>(context.classes.size())};
    if (sizes.classes < 1) throw sluice::Error(sluice::Code::configuration, "model.long_recognizer does not know how many classes there are", "use a source that names its classes");
    if (const auto found = context.streams.find(stream.str()); found != context.streams.end() && found->second.axes == "THWC") sizes.channels = found->second.shape[3];
    return std::make_unique<LongRecognizer>(sizes, stream.str());
  }
};

}  // namespace

SLUICE_MODEL(Recipe, "model.long_recognizer");
