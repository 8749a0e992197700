// Draws are keyed by (sample, segment, draw).
#include "framework/train/pass.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/where.h>

#include <sluice/error.hpp>
#include <sluice/rng.hpp>

#include "framework/train/capped_allocator.hpp"
#include "framework/train/dropout.hpp"

namespace sluice {
namespace {

// FNV-1a (Fowler, Noll, Vo), mixed: the same on every machine, unlike std::hash.
std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return mix_bits(hash);
}

}  // namespace

// Where it draws from and what is drawn there is the same each time it is called with this place.
Pass::Tensors MicrobatchPass::run_at(Place place, const Function& function, const Tensors& inputs) {
  const PlaceScope allocated_in(place.path);
  std::swap(place, place_);
  try {
    Tensors out = function(inputs);
    std::swap(place, place_);
    return out;
  } catch (...) {
    std::swap(place, place_);
    throw;
  }
}

Pass::Tensors MicrobatchPass::run_segment(std::string_view name, Function function, Tensors inputs) {
  const auto count = ++place_.runs.emplace(std::string(name), 0).first->second;
  Place place;
  place.segment = mix_bits(place_.segment ^ hash_of(name)) + count - 1;
  place.path = (place_.path.empty() ? "" : place_.path + "/") + std::string(name) + (count > 1 ? "#" + std::to_string(count) : "");
  const bool outermost = place_.path.empty();
  return run_in(std::move(place), outermost, std::move(function), std::move(inputs));
}

bool MicrobatchPass::whole_is_planned() const {
  const SegmentPlan* plan = at::GradMode::is_enabled() ? options_.segments : nullptr;
  return plan && (plan->offload.names.contains(whole_model) || plan->twice.names.contains(whole_model));
}

Pass::Tensors MicrobatchPass::run_whole(Function function, Tensors inputs) {
  Place place = place_;
  place.path = whole_model;
  return run_in(std::move(place), true, std::move(function), std::move(inputs));
}

Pass::Tensors MicrobatchPass::run_in(Place place, bool outermost, Function function, Tensors inputs) {
  const SegmentPlan* plan = place_.planned || !at::GradMode::is_enabled() ? nullptr : options_.segments;
  const bool offload = plan && plan->offload.contains(place.path, outermost), checkpoint = plan && !offload && plan->twice.contains(place.path, outermost);
  place.planned = offload || checkpoint || place_.planned;
  const std::string path = place.path;
  if (options_.observer) options_.observer->begins(path);
  Tensors out;
  if (checkpoint) {
    SegmentRun run;
    run.name = path;
    run.function = [this, place, function = std::move(function)](const Tensors& in) { return run_at(place, function, in); };
    run.inputs = std::move(inputs);
    run.statistics = options_.statistics;
    run.observer = options_.observer;
    out = run_checkpointed(std::move(run));
  } else if (offload) {
    if (!offloader_) offloader_ = std::make_shared<Offloader>(Offloader::Options{.lasting = options_.statistics, .observer = options_.observer});
    out = offloader_->run(path, [&](const Tensors& in) { return run_at(std::move(place), function, in); }, inputs);
  } else {
    out = run_at(std::move(place), function, inputs);
  }
  if (options_.observer) options_.observer->ends(path, out);
  return out;
}

at::Tensor MicrobatchPass::run_dropout(const at::Tensor& x, double p, bool whole_sample) {
  if (!(p >= 0 && p < 1)) throw Error(Code::configuration, "dropout takes a probability in [0, 1), not " + std::to_string(p));
  if (!training_ || p == 0) return x;
  if (x.dim() == 0 || x.size(0) != static_cast<std::int64_t>(keys_.size()))
    throw Error(Code::plugin, "pass.dropout got a tensor whose axis 0 is not the clip: " + std::to_string(x.dim() == 0 ? 0 : x.size(0)) + " instead of " +
                                  std::to_string(keys_.size()));
  const std::uint64_t draw = mix_bits(place_.segment + place_.draws++);
  std::vector<std::uint64_t> keys;
  keys.reserve(keys_.size());
  for (const auto key : keys_) keys.push_back(mix_bits(key ^ draw));
  // where() keeps the mask of one byte an element for the backward pass, and nothing else.
  return at::where(dropout_mask(x, keys, p, whole_sample), x / (1 - p), 0.0);
}

}  // namespace sluice
