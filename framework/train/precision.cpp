// LibTorch's autocast decides operation by operation. Its cache of cast weights is switched off: it outlives the optimizer's step, and
// a pass without gradients in the same life makes a weight lose its gradient.
#include "framework/train/precision.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>
#include <vector>

#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/conv3d.h>
#include <ATen/ops/ones.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "framework/train/lost_device.hpp"
#include "framework/train/pass.hpp"

namespace sluice {
namespace {

at::ScalarType type_of(Precision precision) { return precision == Precision::bf16 ? at::kBFloat16 : precision == Precision::fp16 ? at::kHalf : at::kFloat; }

bool processor_has(const std::vector<std::string>& any_of) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("flags") && !line.starts_with("Features")) continue;
    line += ' ';
    return std::any_of(any_of.begin(), any_of.end(), [&](const std::string& flag) { return line.find(" " + flag + " ") != std::string::npos; });
  }
  return false;
}

}  // namespace

const char* name_of(Precision precision) { return precision == Precision::bf16 ? "bf16" : precision == Precision::fp16 ? "fp16" : "fp32"; }

AutocastScope::AutocastScope(const Arithmetic& arithmetic)
    : on_(arithmetic.reduced()), type_(arithmetic.device.type()), enabled_(at::autocast::is_autocast_enabled(type_)), dtype_(at::autocast::get_autocast_dtype(type_)), cache_(at::autocast::is_autocast_cache_enabled()) {
  if (!on_) return;
  at::autocast::set_autocast_cache_enabled(false);
  at::autocast::set_autocast_dtype(type_, type_of(arithmetic.precision));
  at::autocast::set_autocast_enabled(type_, true);
  at::autocast::increment_nesting();
}

AutocastScope::~AutocastScope() {
  if (!on_) return;
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(type_, enabled_);
  at::autocast::set_autocast_dtype(type_, dtype_);
  at::autocast::set_autocast_cache_enabled(cache_);
}

Outputs for_the_loss(const Outputs& outputs) {
  Outputs exact;
  for (const auto& [name, tensor] : outputs) {
    const bool reduced = tensor.scalar_type() == at::kBFloat16 || tensor.scalar_type() == at::kHalf;
    exact.set(name, reduced ? tensor.to(at::kFloat) : tensor);
  }
  return exact;
}

namespace {

Outputs forward_as_one_segment(Model& model, const Inputs& inputs, MicrobatchPass& pass) {
  std::vector<std::string> in_names;
  Pass::Tensors in;
  for (const auto& [name, tensor] : inputs) {
    in_names.push_back(name);
    in.push_back(tensor);
  }
  const auto out_names = std::make_shared<std::vector<std::string>>();
  const auto run = [&model, &pass, in_names, out_names](const Pass::Tensors& tensors) {
    Inputs again;
    for (std::size_t i = 0; i < in_names.size(); ++i) again.set(in_names[i], tensors[i]);
    Pass::Tensors out;
    out_names->clear();
    for (const auto& [name, tensor] : model.forward(again, pass)) {
      out_names->push_back(name);
      out.push_back(tensor);
    }
    return out;
  };
  const Pass::Tensors out = pass.run_whole(run, in);
  Outputs outputs;
  for (std::size_t i = 0; i < out.size(); ++i) outputs.set((*out_names)[i], out[i]);
  return outputs;
}

}  // namespace

Outputs forward_in(const Arithmetic& arithmetic, Model& model, const Inputs& inputs, MicrobatchPass& pass) {
  Outputs outputs;
  {
    const AutocastScope scope(arithmetic);
    outputs = pass.whole_is_planned() ? forward_as_one_segment(model, inputs, pass) : model.forward(inputs, pass);
  }
  return for_the_loss(outputs);
}

PrecisionSupport precision_support(const Arithmetic& arithmetic) {
  if (!arithmetic.reduced()) return {};
  PrecisionSupport support;
  try {
    const auto options = at::TensorOptions(type_of(arithmetic.precision)).device(arithmetic.device);
    const at::Tensor weight = at::ones({1, 1, 1, 1, 1}, options).set_requires_grad(true);
    at::conv3d(at::ones({1, 1, 1, 2, 2}, options), weight).sum().backward();
  } catch (const c10::Error& error) {
    if (says_device_is_lost(error)) throw;
    return {false, false, error.what_without_backtrace()};
  }
  if (arithmetic.device.is_cpu()) {
    const bool bf16 = arithmetic.precision == Precision::bf16;
    support.native = processor_has(bf16 ? std::vector<std::string>{"avx512_bf16", "amx_bf16", "bf16"} : std::vector<std::string>{"avx512_fp16", "amx_fp16", "asimdhp"});
    if (!support.native) support.why = fmt::format("this processor has no instructions for {} ({}): emulated, it takes more time here, and may take more memory", name_of(arithmetic.precision), bf16 ? "avx512_bf16, amx_bf16" : "avx512_fp16, amx_fp16");
  }
  return support;
}

void LossScaler::updated() {
  constexpr std::int64_t until_it_grows = 2000;
  if (!active_ || ++clean_ < until_it_grows) return;
  scale_ = std::min(scale_ * 2, std::ldexp(1.0, 24));
  clean_ = 0;
}

bool LossScaler::overflowed() {
  clean_ = 0;
  if (!active_ || scale_ <= 1) return false;
  scale_ /= 2;
  return true;
}

double LossScaler::seed(double expected_weight) const {
  return active_ && expected_weight > 0 ? scale_ / std::exp2(std::ceil(std::log2(expected_weight))) : scale_;
}

void LossScaler::restore(const State& state) {
  if (!active_) return;
  scale_ = state.scale;
  clean_ = state.clean;
}

}  // namespace sluice
