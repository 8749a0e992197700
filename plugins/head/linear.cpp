// One linear layer over the mean of the features in time and space, with dropout before it.
#include <memory>

#include <torch/nn/init.h>

#include <sluice/torch/module.hpp>
#include <sluice/torch/plugin.hpp>

#include <ATen/ops/linear.h>
#include <ATen/ops/mean.h>

namespace {

class Linear : public sluice::Module<sluice::Head> {
 public:
  Linear(std::int64_t channels, std::int64_t classes, double dropout, double init_std)
      : dropout_(dropout),
        weight_(register_parameter("weight", torch::empty({classes, channels}))),
        bias_(register_parameter("bias", torch::zeros({classes}))) {
    torch::nn::init::normal_(weight_, 0.0, init_std);
  }
  at::Tensor forward(const at::Tensor& features, sluice::Pass& pass) override {
    const at::Tensor pooled = at::mean(features, {2, 3, 4});
    return at::linear(dropout_ > 0 ? pass.dropout(pooled, dropout_) : pooled, weight_, bias_);
  }

 private:
  double dropout_;
  at::Tensor weight_, bias_;
};

struct Recipe {
  static constexpr std::string_view help = "global average pool, dropout, one linear layer";
  double dropout = 0;
  std::int64_t classes = 0;
  double init_std = 0.01;
  static constexpr auto fields = sluice::fields(
      sluice::field(&Recipe::dropout, "dropout", "chance that a pooled feature is zeroed in training", sluice::below(0, 1)),
      sluice::field(&Recipe::classes, "classes", "number of classes; 0: those of the source", sluice::at_least(0)),
      sluice::field(&Recipe::init_std, "init_std", "standard deviation of the first weights", sluice::at_least(0)));

  std::unique_ptr<sluice::Head> build(const sluice::HeadContext& context) const {
    const auto known = static_cast<std::int64_t>(context.classes.size());
    const auto count = classes > 0 ? classes : known;
    if (count < 1) throw sluice::Error(sluice::Code::configuration, "head.linear does not know how many classes there are", "the source names none: write classes = N in the head");
    if (count < known)
      throw sluice::Error(sluice::Code::configuration, "head.linear has " + std::to_string(count) + " classes, the source " + std::to_string(known),
                          "leave `classes` out to take the source's");
    return std::make_unique<Linear>(context.channels, count, dropout, init_std);
  }
};

}  // namespace

SLUICE_HEAD(Recipe, "head.linear");
