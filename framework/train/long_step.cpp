// Sums over clips, then one division; a clip's gradient joins the others' when its last chunk is done.
#include "framework/train/long_step.hpp"

#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>

#include "framework/train/capped_allocator.hpp"

namespace sluice {

LongStep::LongStep(Model& model, Loss& loss, Optimizer& optimizer, StepOptions options)
    : model_(model), loss_(loss), options_(std::move(options)), step_(model, loss, optimizer, options_) {
  for (auto& weight : model_.weights()) weights_.push_back(weight.tensor);
}

void LongStep::begin() {
  std::vector<at::Tensor> before;
  for (auto& weight : weights_) before.push_back(std::exchange(weight.mutable_grad(), at::Tensor()));
  current_.emplace(Current{LongClip(model_, {true, &options_.segments, options_.observer, options_.arithmetic}), {}, std::move(before)});
}

void LongStep::keep() {
  const at::NoGradGuard no_grad;
  auto& allocator = CappedAllocator::install();
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    at::Tensor& now = weights_[i].mutable_grad();
    at::Tensor& before = current_->gradients_before[i];
    if (before.defined()) now = now.defined() ? before.add_(now) : before;
    if (now.defined() && now.is_cpu()) allocator.retag(now.storage().data_ptr(), Account::gradients);
  }
  const LossValue& value = current_->value;
  ++result_.clips;
  result_.weight += value.weight;
  sum_ += value.sum.item<double>();
  for (std::size_t i = 0; i < value.scalars.size(); ++i) {
    const double number = value.scalars[i].second.item<double>();
    if (i < result_.scalars.size()) result_.scalars[i].second += number;
    else result_.scalars.emplace_back(value.scalars[i].first, number);
  }
  current_.reset();
}

void LongStep::forget() {
  if (!current_) return;
  for (std::size_t i = 0; i < weights_.size(); ++i) weights_[i].mutable_grad() = current_->gradients_before[i];
  current_.reset();
}

void LongStep::reset() {
  current_.reset();
  result_ = {};
  sum_ = 0;
}

void LongStep::work(const Assembler& assembler, const Batch& piece) {
  if (!piece.chunk) return;  // a mark: nothing is left of the phase
  if (piece.samples.empty()) return forget();
  const ChunkPlace& place = *piece.chunk;
  if (place.pass == ChunkPass::features && place.begin == 0) begin();
  const Microbatch chunk = assembler.assemble(piece.samples, assembler.extents(piece.samples));
  if (place.pass == ChunkPass::features) {
    current_->clip.encode(chunk, place);
    if (place.ends_pass) {
      // One for the whole batch: that of its first clip.
      const auto seed = [this](double weight) {
        if (result_.clips == 0) result_.seed = scaler().seed(weight);
        return result_.seed;
      };
      current_->value = current_->clip.learn(loss_, options_.classes, seed);
    }
  } else {
    current_->clip.backward(chunk, place);
    if (place.ends_clip) keep();
  }
}

void LongStep::add(const Assembler& assembler, const Batch& piece) {
  try {
    work(assembler, piece);
  } catch (...) {
    step_.drop_gradients();
    reset();
    step_.forget_backward();
    throw;
  }
}

StepResult LongStep::commit(double lr) {
  StepResult result = std::exchange(result_, {});
  if (result.weight > 0) {
    result.loss = sum_ / result.weight;
    for (auto& [name, number] : result.scalars) number /= result.weight;
  } else {
    result.scalars.clear();
  }
  reset();
  try {
    step_.commit(result, lr);
  } catch (...) {
    step_.drop_gradients();  // divided already, perhaps: the next batch would be summed on top of them
    throw;
  }
  return result;
}

}  // namespace sluice
