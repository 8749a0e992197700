// Accumulation of sums, then one division: a mean of means is wrong as soon as weights differ.
#include "framework/train/step.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_div.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <sluice/error.hpp>

#include "framework/train/capped_allocator.hpp"

namespace sluice {
namespace {

Microbatch made_by(const std::function<Microbatch()>& make) {
  const PlaceScope allocated_in("the batch");
  return make();
}

// The last may be smaller.
std::vector<std::function<Microbatch()>> cut(const Assembler& assembler, const Assembler::Extents& extents, std::span<const FinishedSample> batch, std::int64_t microbatch) {
  std::vector<std::function<Microbatch()>> out;
  const auto each = static_cast<std::size_t>(microbatch);
  for (std::size_t at = 0; at < batch.size(); at += each) {
    const auto part = batch.subspan(at, std::min(each, batch.size() - at));
    out.emplace_back([&assembler, &extents, part] { return assembler.assemble(part, extents); });
  }
  return out;
}

}  // namespace

void check_loss(const LossValue& value) {
  if (!value.sum.defined() || value.sum.numel() != 1)
    throw Error(Code::plugin, "the loss returned no scalar as its sum", "return {sum, weight}: the sum over the clips and how many of them count");
  if (!(value.weight >= 0) || !std::isfinite(value.weight))
    throw Error(Code::plugin, "the loss returned the weight " + std::to_string(value.weight), "a weight is zero or positive");
}

Step::Step(Model& model, Loss& loss, Optimizer& optimizer, StepOptions options) : model_(model), loss_(loss), optimizer_(optimizer), options_(std::move(options)), scaler_(options_.arithmetic.precision) {
  for (auto& weight : model_.weights()) weights_.push_back(weight.tensor);
  for (auto& statistic : model_.statistics()) statistics_.push_back(statistic.tensor);
  const at::AutoGradMode with_gradients(true);
  number_ = at::zeros({1}).set_requires_grad(true);
  oldest_ = number_.mul(1);
}

// Younger nodes come first, so that all that was left are taken out, and dropped, before this one.
void Step::forget_backward() noexcept {
  try {
    oldest_.backward({}, true);
  } catch (const std::exception&) {  // no memory for one number: then it stays until there is
  }
  number_.mutable_grad().reset();
}

void Step::remember_statistics() {
  remembered_.clear();
  for (const auto& statistic : statistics_) remembered_.push_back(statistic.clone());
}

void Step::restore_statistics() {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < remembered_.size(); ++i) statistics_[i].copy_(remembered_[i]);
}

void Step::drop_gradients() {
  for (auto& weight : weights_) weight.mutable_grad().reset();
}

void Step::tag_gradients() {
  auto& allocator = CappedAllocator::install();
  for (const auto& weight : weights_)
    if (weight.grad().defined() && weight.grad().is_cpu()) allocator.retag(weight.grad().storage().data_ptr(), Account::gradients);
}

StepResult Step::accumulate(const std::vector<std::function<Microbatch()>>& microbatches, const GoOn& go_on, std::int64_t clips) {
  drop_gradients();
  return add_gradients(microbatches, go_on, clips);
}

StepResult Step::add_gradients(const std::vector<std::function<Microbatch()>>& microbatches, const GoOn& go_on, std::int64_t clips) {
  StepResult result;
  model_.set_training(true);
  at::Tensor sum;
  std::vector<std::pair<std::string, at::Tensor>> scalars;
  for (const auto& make : microbatches) {
    {
      const Microbatch microbatch = made_by(make);
      loss_.check(microbatch.host, options_.classes);
      MicrobatchPass pass(true, microbatch.keys, {&options_.segments, statistics_, options_.observer});
      const Outputs outputs = forward_in(options_.arithmetic, model_, microbatch.inputs, pass);
      LossValue value = loss_(outputs, microbatch.inputs, microbatch.host);
      check_loss(value);
      result.clips += microbatch.clips;
      result.weight += value.weight;
      const at::Tensor own = value.sum.detach().to(at::kDouble);
      sum = sum.defined() ? sum + own : own;
      for (std::size_t i = 0; i < value.scalars.size(); ++i) {
        const at::Tensor number = value.scalars[i].second.detach().to(at::kDouble);
        if (i < scalars.size()) scalars[i].second = scalars[i].second + number;
        else scalars.emplace_back(value.scalars[i].first, number);
      }
      if (&make == &microbatches.front()) {
        const auto of_batch = clips > 0 ? static_cast<double>(clips) / static_cast<double>(microbatch.clips) : static_cast<double>(microbatches.size());
        result.seed = scaler_.seed(value.weight * of_batch);
      }
      const PlaceScope allocated_in("the backward pass");
      if (value.weight > 0) value.sum.backward(at::full_like(value.sum, result.seed));
    }
    tag_gradients();
    if (go_on && !go_on() && &make != &microbatches.back()) {
      result.abandoned = true;
      drop_gradients();
      return result;
    }
  }
  if (result.weight > 0) {
    result.loss = sum.item<double>() / result.weight;
    for (const auto& [name, total] : scalars) result.scalars.emplace_back(name, total.item<double>() / result.weight);
  }
  return result;
}

void Step::commit(StepResult& result, double lr) {
  if (result.abandoned || result.weight == 0 || !std::isfinite(result.loss)) {
    result.overflow = !result.abandoned && result.weight > 0 && scaler_.overflowed();
    drop_gradients();
    return;
  }
  std::vector<at::Tensor> gradients;
  for (auto& weight : weights_)
    if (weight.grad().defined()) gradients.push_back(weight.mutable_grad());
  if (!gradients.empty()) {
    at::_foreach_div_(gradients, result.weight * result.seed);
    const at::Tensor norm = at::linalg_vector_norm(at::stack(at::_foreach_norm(gradients, 2)), 2);
    const bool finite = std::isfinite(norm.item<double>());
    if (options_.clip_norm > 0) {
      // Pascanu, Mikolov, Bengio 2013; the formula of torch.nn.utils.clip_grad_norm_.
      at::_foreach_mul_(gradients, (options_.clip_norm / (norm + 1e-6)).clamp_max(1.0));
      result.gradient_norm = norm.item<double>();
    }
    if (finite) {
      const PlaceScope allocated_in("the optimizer");
      optimizer_.step(lr);
      scaler_.updated();
      result.updated = true;
    } else {
      result.overflow = scaler_.overflowed();
    }
  }
  drop_gradients();
}

StepResult Step::run(const Assembler& assembler, std::span<const FinishedSample> batch, double lr, const GoOn& go_on) {
  if (batch.empty()) return {};
  const auto extents = assembler.extents(batch);
  remember_statistics();
  try {
    StepResult result = accumulate(cut(assembler, extents, batch, options_.microbatch), go_on, static_cast<std::int64_t>(batch.size()));
    commit(result, lr);
    if (!result.updated) restore_statistics();
    return result;
  } catch (...) {
    drop_gradients();
    forget_backward();
    restore_statistics();
    throw;
  }
}

void Step::rehearse(const Assembler& assembler, std::span<const FinishedSample> batch, std::int64_t microbatch, const SegmentPlan& segments) {
  const auto extents = assembler.extents(batch);
  const SegmentPlan before = std::exchange(options_.segments, segments);
  const auto undo = [&] {
    options_.segments = before;
    drop_gradients();
    restore_statistics();
  };
  remember_statistics();
  try {
    accumulate(cut(assembler, extents, batch, microbatch), {}, static_cast<std::int64_t>(batch.size()));
  } catch (...) {
    undo();
    forget_backward();
    throw;
  }
  undo();
}

}  // namespace sluice
