// Module<Base>: a torch::nn::Module that is a Backbone, Head or Model.
//
//   class Tiny : public sluice::Module<sluice::Backbone> {
//    public:
//     Tiny() : conv_(register_module("conv", torch::nn::Conv3d(torch::nn::Conv3dOptions(3, 8, 3)))) {}
//     at::Tensor forward(const at::Tensor& clip, sluice::Pass& pass) override {
//       return pass.segment("conv", [conv = conv_](const at::Tensor& x) mutable { return conv->forward(x).relu(); }, clip);
//     }
//     std::int64_t channels() const override { return 8; }
//    private:
//     torch::nn::Conv3d conv_;
//   };
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/batchnorm.h>

#include <sluice/torch/network.hpp>

namespace sluice {

namespace detail {
// Puts every BatchNorm below `module` into evaluation for good when `freeze`; returns how many there are.
inline std::int64_t count_batch_norms(torch::nn::Module& module, bool freeze) {
  std::int64_t found = 0;
  for (const auto& child : module.modules()) {
    const bool is_norm = dynamic_cast<torch::nn::BatchNorm1dImpl*>(child.get()) || dynamic_cast<torch::nn::BatchNorm2dImpl*>(child.get()) ||
                         dynamic_cast<torch::nn::BatchNorm3dImpl*>(child.get());
    if (!is_norm) continue;
    ++found;
    if (freeze) child->eval();
  }
  return found;
}
}  // namespace detail

// Build it with std::make_shared-free std::make_unique: sluice owns it. modules(include_self) needs no shared owner here.
template <class Base> class Module : public Base, public torch::nn::Module {
 public:
  [[nodiscard]] std::vector<NamedTensor> weights() override { return list(this->named_parameters()); }
  [[nodiscard]] std::vector<NamedTensor> statistics() override { return list(this->named_buffers()); }
  void set_training(bool training) override {
    this->train(training);
    if (frozen_ && training) freeze(*this);
  }
  void move_to(at::Device device) override { this->to(device); }
  std::int64_t batch_norms(bool freeze_them) override {
    frozen_ = frozen_ || freeze_them;
    std::int64_t found = 0;
    for (const auto& child : this->children()) found += detail::count_batch_norms(*child, freeze_them);
    return found;
  }

 private:
  template <class Dict> static std::vector<NamedTensor> list(const Dict& dict) {
    std::vector<NamedTensor> out;
    for (const auto& item : dict) out.push_back({item.key(), item.value()});
    return out;
  }
  static void freeze(torch::nn::Module& module) {
    for (const auto& child : module.children()) detail::count_batch_norms(*child, true);
  }
  bool frozen_ = false;
};

}  // namespace sluice
