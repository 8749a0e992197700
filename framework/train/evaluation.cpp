// One forward a microbatch; a video's views are summed as they come and divided when the next video begins.
#include "framework/train/evaluation.hpp"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/log.h>
#include <ATen/ops/softmax.h>
#include <c10/util/Exception.h>

#include <sluice/error.hpp>

#include "framework/base/log.hpp"
#include "framework/train/capped_allocator.hpp"
#include "framework/train/out_of_memory.hpp"
#include "framework/train/pass.hpp"

namespace sluice {
namespace {

constexpr std::string_view logits = "logits";

bool of_clips(const at::Tensor& tensor, std::int64_t clips) { return tensor.dim() > 0 && tensor.size(0) == clips; }

}  // namespace

Evaluation::Evaluation(Model& model, Loss* loss, std::vector<NamedMetric>& metrics, EvalOptions options)
    : model_(model), loss_(loss), metrics_(metrics), options_(std::move(options)) {
  for (auto& metric : metrics_) metric.metric->reset();
}

void Evaluation::update(const Outputs& outputs, const Inputs& host) {
  for (auto& metric : metrics_) metric.metric->update(outputs, host);
}

void Evaluation::complete_video() {
  if (current_ < 0) return;
  Outputs averaged;
  for (const auto& [name, sum] : current_outputs_) {
    at::Tensor mean = sum.is_floating_point() ? sum / static_cast<double>(current_views_) : sum;
    // Back to logits whose softmax is the mean probability.
    if (name == logits && options_.average == "prob" && current_views_ > 0 && options_.views > 1) mean = at::log(mean.clamp_min(1e-30));
    averaged.set(name, mean);
  }
  update(averaged, current_host_);
  if (on_video_) on_video_({current_, averaged, current_host_});
  ++videos_;
  current_ = -1;
}

// What runs out of memory counts nothing yet, so fewer clips at a time give the same numbers.
void Evaluation::add(const Assembler& assembler, std::span<const FinishedSample> samples) {
  const auto extents = assembler.extents(samples);
  bool again = false;
  for (std::size_t done = 0; done < samples.size();) {
    const auto part = samples.subspan(done, std::min(at_a_time_, samples.size() - done));
    try {
      telling_out_of_memory([&] { add_at_once(assembler, part, extents); });
      done += part.size();
    } catch (const c10::OutOfMemoryError&) {
      if (again && part.size() == 1) throw;
      CappedAllocator::install().trim();
      if (again) {
        at_a_time_ = (part.size() + 1) / 2;
        log::warning("the evaluation ran out of memory: {} at a time instead of {} from here on", at_a_time_, part.size());
      }
      again = true;
    }
  }
}

void Evaluation::add_at_once(const Assembler& assembler, std::span<const FinishedSample> samples, const Assembler::Extents& extents) {
  const at::NoGradGuard no_grad;
  model_.set_training(false);
  const Microbatch microbatch = assembler.assemble(samples, extents);
  if (loss_) loss_->check(microbatch.host, options_.classes);
  MicrobatchPass pass(false, microbatch.keys);
  const Outputs outputs = forward_in(options_.arithmetic, model_, microbatch.inputs, pass);
  std::vector<std::int64_t> indices;
  for (const auto& sample : samples) indices.push_back(sample.index);
  take(outputs, microbatch.inputs, microbatch.host, indices);
}

void Evaluation::rehearse(const Assembler& assembler, const Batch& batch) const {
  const at::NoGradGuard no_grad;
  model_.set_training(false);
  const std::span<const FinishedSample> samples = batch.samples;
  if (batch.chunk) {
    LongClip clip(model_, {.arithmetic = options_.arithmetic});
    clip.encode(assembler.assemble(samples, assembler.extents(samples)), *batch.chunk);
    const Outputs outputs = clip.outputs();
    if (loss_) static_cast<void>((*loss_)(outputs, clip.inputs(), clip.host()));
    return;
  }
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const Microbatch microbatch = assembler.assemble(samples.subspan(i, 1), assembler.extents(samples));
    MicrobatchPass pass(false, microbatch.keys);
    const Outputs outputs = forward_in(options_.arithmetic, model_, microbatch.inputs, pass);
    if (loss_) static_cast<void>((*loss_)(outputs, microbatch.inputs, microbatch.host));
  }
}

void Evaluation::add(const Assembler& assembler, const Batch& batch) {
  if (!batch.chunk) return add(assembler, batch.samples);
  try {
    add_chunk(assembler, batch);
  } catch (...) {
    long_clip_.reset();
    throw;
  }
}

void Evaluation::add_chunk(const Assembler& assembler, const Batch& batch) {
  if (batch.samples.empty()) return long_clip_.reset();
  if (batch.chunk->begin == 0) long_clip_.emplace(model_, LongClip::Options{.arithmetic = options_.arithmetic});
  long_clip_->encode(assembler.assemble(batch.samples, assembler.extents(batch.samples)), *batch.chunk);
  if (!batch.chunk->ends_clip) return;
  const at::NoGradGuard no_grad;
  if (loss_) loss_->check(long_clip_->host(), options_.classes);
  take(long_clip_->outputs(), long_clip_->inputs(), long_clip_->host(), {batch.samples.front().index});
  long_clip_.reset();
}

void Evaluation::take(const Outputs& outputs, const Inputs& inputs, const Inputs& host, const std::vector<std::int64_t>& indices) {
  Outputs on_host;
  for (const auto& [name, tensor] : outputs) on_host.set(name, tensor.to(at::kCPU));
  double sum = 0, weight = 0;
  if (loss_) {
    const LossValue value = (*loss_)(outputs, inputs, host);
    sum = value.sum.item<double>();
    weight = value.weight;
  }
  try {
    count(on_host, host, indices);
  } catch (const c10::OutOfMemoryError& error) {
    // Some metrics may have counted it: to try again would count it twice.
    throw Error(Code::memory, std::string("a metric ran out of memory: ") + error.what_without_backtrace(), "raise budget.host_ram, or leave out metrics that keep a lot");
  }
  loss_sum_ += sum;
  weight_ += weight;
}

void Evaluation::count(const Outputs& on_host, const Inputs& host, const std::vector<std::int64_t>& indices) {
  const auto clips = static_cast<std::int64_t>(indices.size());
  clips_ += clips;
  if (options_.views <= 1 && !on_video_) {
    update(on_host, host);
    videos_ += clips;
    return;
  }
  for (std::int64_t i = 0; i < clips; ++i) {
    const std::int64_t video = indices[static_cast<std::size_t>(i)] / std::max<std::int64_t>(1, options_.views);
    if (video != current_) {
      complete_video();
      current_ = video;
      current_views_ = 0;
      current_outputs_ = {};
      current_host_ = {};
      for (const auto& [name, tensor] : host)
        if (of_clips(tensor, clips)) current_host_.set(name, tensor.narrow(0, i, 1).clone());
    }
    ++current_views_;
    for (const auto& [name, tensor] : on_host) {
      if (!of_clips(tensor, clips)) continue;
      at::Tensor row = tensor.narrow(0, i, 1);
      if (name == logits && options_.average == "prob" && options_.views > 1) row = at::softmax(row.to(at::kDouble), -1);
      const at::Tensor* sum = current_outputs_.find(name);
      // Views of other lengths cannot be added; the first one speaks for the video.
      if (sum == nullptr) current_outputs_.set(name, row.clone());
      else if (sum->is_floating_point() && sum->sizes() == row.sizes()) current_outputs_.set(name, *sum + row);
    }
  }
}

EvalNumbers Evaluation::finish() {
  complete_video();
  EvalNumbers out;
  if (loss_) out.numbers.emplace_back("loss", weight_ > 0 ? loss_sum_ / weight_ : 0.0);
  for (const auto& metric : metrics_) {
    for (const auto& [name, value] : metric.metric->result()) out.numbers.emplace_back(metric.name + "." + name, value);
    if (auto table = metric.metric->table(); !table.empty()) out.tables.emplace_back(metric.name, std::move(table));
  }
  out.clips = clips_;
  out.videos = videos_;
  return out;
}

}  // namespace sluice
