// Gradients against finite differences, in float64: an oracle that knows nothing of autograd.
#include <cmath>

#include "oracle.hpp"
#include "training_half.hpp"

using namespace sluice;
using namespace sluice::testing;

// Catches: an in-place operation that autograd did not notice, a residual that is added but not differentiated.
TEST_CASE("gradients of a tiny r3d are its slopes") {
  using Numbers = std::vector<std::int64_t>;
  for (const char* convolution : {"3d", "mc3", "2plus1d"}) {
    CAPTURE(convolution);
    const auto model = recognizer(part("backbone.r3d", {{"layers", Numbers{1, 1}}, {"width", 2}, {"convolution", convolution}}), 3);
    double phase = 0;
    for (auto& [name, weight] : model->weights()) weight.set_data(wave(weight.sizes(), phase += 1, 0.4) + (weight.dim() == 1 ? 1.0 : 0.0));
    for (auto& [name, tensor] : model->statistics())
      if (tensor.is_floating_point()) tensor.set_data(tensor.to(at::kDouble));
    const at::Tensor clip = wave({3, 3, 4, 9, 8}, 0.2);
    const auto value = [&] {
      StraightPass pass;
      const at::Tensor logits = model->forward(named("clip", clip), pass).get("logits");
      return (logits * wave(logits.sizes(), 0.5)).sum();
    };
    value().backward();

    constexpr double h = 1e-6;
    for (auto& [name, weight] : model->weights()) {
      const at::Tensor values = weight.detach().view({-1}), gradient = weight.grad().contiguous().view({-1});
      for (const std::int64_t i : {std::int64_t{0}, values.numel() / 2, values.numel() - 1}) {
        double* const element = values.data_ptr<double>() + i;
        const double kept = *element;
        *element = kept + h;
        const double above = value().item<double>();
        *element = kept - h;
        const double below = value().item<double>();
        *element = kept;
        const double slope = (above - below) / (2 * h), found = gradient[i].item<double>();
        CHECK_MESSAGE(std::abs(slope - found) < 1e-6 + 1e-4 * std::abs(slope), name, "[", i, "]: slope ", slope, ", gradient ", found);
      }
    }
  }
}
