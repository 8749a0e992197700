// Each measurement is a pass of the real trainer over zeros, under a cap: what does not stay below it is not known, and no harm done.
#include "framework/train/needs.hpp"

#include <malloc.h>

#include <algorithm>
#include <functional>
#include <set>
#include <utility>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Generator.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros_like.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/base/bytes.hpp"
#include "framework/base/strings.hpp"
#include "framework/memory/process.hpp"
#include "framework/train/capped_allocator.hpp"
#include "framework/train/kernel_audit.hpp"
#include "framework/train/long_clip.hpp"
#include "framework/train/loss_of_zeros.hpp"
#include "framework/train/lost_device.hpp"
#include "framework/train/offload_store.hpp"
#include "framework/train/out_of_memory.hpp"
#include "framework/train/pass.hpp"
#include "framework/train/pass_recorder.hpp"
#include "framework/train/step.hpp"

namespace sluice {
namespace {

// Random numbers that a network draws outside of its Pass come from the default generator.
class SameRandomNumbers {
 public:
  SameRandomNumbers() : state_(at::detail::getDefaultCPUGenerator().get_state()) {}
  ~SameRandomNumbers() {
    at::Generator generator = at::detail::getDefaultCPUGenerator();
    generator.set_state(state_);
  }
  SameRandomNumbers(const SameRandomNumbers&) = delete;
  SameRandomNumbers& operator=(const SameRandomNumbers&) = delete;

 private:
  at::Tensor state_;
};

class SameStatistics {
 public:
  explicit SameStatistics(Model& model) {
    for (auto& item : model.statistics()) {
      live_.push_back(item.tensor);
      before_.push_back(item.tensor.clone());
    }
  }
  ~SameStatistics() {
    put_back([this] {
      const at::NoGradGuard no_grad;
      for (std::size_t i = 0; i < live_.size(); ++i) live_[i].copy_(before_[i]);
    });
  }
  SameStatistics(const SameStatistics&) = delete;
  SameStatistics& operator=(const SameStatistics&) = delete;

  // The name of the first that is no longer what it was.
  [[nodiscard]] static std::string moved(Model& model, const SameStatistics& before) {
    const auto now = model.statistics();
    for (std::size_t i = 0; i < now.size(); ++i)
      if (now[i].tensor.is_floating_point() && !now[i].tensor.equal(before.before_[i])) return now[i].name;
    return {};
  }

 private:
  std::vector<at::Tensor> live_, before_;
};

// The pieces of a long clip that need the most: the first, one with a halo on each side, the last.
template <class Take> void for_some_chunks(const Assembler& assembler, std::int64_t frames, const Chunking& chunking, const Take& take) {
  const auto count = chunks_of(frames, chunking);
  for (const auto i : std::set<std::int64_t>{0, std::min<std::int64_t>(1, count - 1), count - 1}) {
    const auto place = chunk_at(frames, chunking, i);
    take(assembler.zeros(1, assembler.with_frames(place.last - place.first)), place);
  }
}

std::uint64_t bytes_of(const std::vector<NamedTensor>& tensors) {
  std::uint64_t bytes = 0;
  for (const auto& item : tensors) bytes += static_cast<std::uint64_t>(item.tensor.nbytes());
  return bytes;
}
std::uint64_t weight_bytes(Model& model, bool that_learn) {
  auto weights = model.weights();
  if (that_learn) std::erase_if(weights, [](const NamedTensor& item) { return !item.tensor.requires_grad(); });
  return bytes_of(weights);
}

// A line needs two ends.
PassTrace as_two(PassTrace one) {
  one.clips = 2;
  return one;
}

// Code that was given back and that steps, checkpoints and the end of the process read again, beside passes; 6 MiB were measured.
constexpr std::uint64_t read_again = 8 * MiB;

constexpr double forward_share = 1.0 / 3;  // of the work of a step

double work_of(std::int64_t clips, const SegmentPlan& segments) { return static_cast<double>(clips) * (segments.twice.any() ? 1 + forward_share : 1); }

}  // namespace

std::uint64_t with_margin(std::uint64_t bytes) { return bytes + bytes / 64 + MiB; }

NeedsMeter::NeedsMeter(NeedsRequest request, std::filesystem::path folder, std::string key)
    : request_(std::move(request)), folder_(std::move(folder)), key_("10 " + std::move(key)), memory_(request_.device) {
  if (!recall()) measure_fixed();
  else if (request_.after_probing) measure_base();  // that one read headers, and built what it measured
  if (const TensorNeeds* smaller = request_.of_smaller) {
    // What passes have left in between is no part of base.
    const auto count_from_there = [&](std::uint64_t& runtime) { runtime = fixed_.base + runtime - std::min(fixed_.base + runtime, smaller->base); };
    for (auto& [plan, runtime] : settled_) count_from_there(runtime);
    kept_ = smaller->runtime;
    fixed_.base = smaller->base;
    fixed_.start = smaller->start;
  }
}

void NeedsMeter::measure_base() {
  auto& allocator = CappedAllocator::install();
  allocator.trim();
  malloc_trim(0);  // what reading headers and building left free
  fixed_.start = with_margin(peak_resident_bytes());
  const auto resident = resident_bytes();
  fixed_.base = resident - std::min(resident, allocator.counters().live) + read_again;
}

void NeedsMeter::measure_fixed() {
  measure_base();
  const auto now = CappedAllocator::install().counters();
  if (memory_.in_host()) {
    fixed_.parameters = now.of(Account::parameters);
    fixed_.optimizer = now.of(Account::optimizer);
  } else {
    fixed_.parameters = weight_bytes(*request_.model, false) + bytes_of(request_.model->statistics());
    if (request_.optimizer) fixed_.optimizer = bytes_of(request_.optimizer->state());
  }
  if (request_.train) fixed_.gradients = weight_bytes(*request_.model, true);
}

// What libraries take beside the tensors comes on top.
std::uint64_t NeedsMeter::to_spare() {
  constexpr std::uint64_t beside = 64 * MiB;
  const std::uint64_t most = free_memory() / 10 * 9;
  return most - std::min(most, beside);
}

// Nothing where memory was short; with its margin it may be more than `cap` all the same. Another failure is thrown on.
std::optional<std::uint64_t> NeedsMeter::measure(std::uint64_t cap, double clips, const std::function<Weighed()>& pass) {
  if (request_.progress) request_.progress();
  auto& allocator = CappedAllocator::install();
  const SameRandomNumbers same_random_numbers;
  const SameStatistics same_statistics(*request_.model);
  allocator.keep_beyond_peak(false);  // it would have what the libraries will keep, of which nothing is known yet
  allocator.trim();
  if (!memory_.in_host()) memory_.trim();
  const auto before = memory_.counters();
  const bool new_peak = reset_peak_resident();
  memory_.set_cap((memory_.in_host() ? before.live : before.held) + std::max<std::uint64_t>(cap, 1));
  auto& store = OffloadStore::instance();
  store.set_cap(request_.store);
  ++passes_;
  clips_ += clips;
  std::optional<Weighed> weighed;
  try {
    weighed = telling_out_of_memory(pass);
  } catch (const c10::OutOfMemoryError&) {
  } catch (...) {
    memory_.set_cap(0);
    store.set_cap(0);
    allocator.keep_beyond_peak(true);
    throw;
  }
  memory_.set_cap(0);
  store.set_cap(0);
  const auto peak = new_peak ? peak_resident_bytes() : resident_bytes();
  allocator.trim();
  allocator.keep_beyond_peak(true);
  if (!memory_.in_host()) memory_.trim();
  store.trim();
  if (!weighed) {
    give_back_pages_of_libraries();  // unwinding has read some MiB of them, which is none of what later passes keep
    return std::nullopt;
  }
  // Of a first pass not every block is touched when it is at its peak. What a library keeps when it is done is there at the peak of the next.
  const auto live = allocator.counters().live + store.counters().live, left = resident_bytes();
  const auto beside = std::max(peak - std::min(peak, weighed->footprint), left - std::min(left, live));
  const auto base = fixed_.base - std::min(fixed_.base, read_again);
  kept_ = std::max(kept_, beside - std::min(beside, base));
  return with_margin(weighed->bytes);
}

std::uint64_t NeedsMeter::foreseen_runtime(std::int64_t microbatch) const {
  std::uint64_t most = probed_here_ ? kept_ : 0;
  if (const auto same = foreseen_.find(microbatch); same != foreseen_.end()) return std::max(most, same->second);
  for (const auto& [clips, bytes] : foreseen_) most = std::max(most, bytes);
  return most;
}

std::uint64_t NeedsMeter::runtime(const TrainingPlan& plan) const {
  const auto settled = settled_.find({plan.microbatch, plan.eval_microbatch});
  return std::max(kept_, settled != settled_.end() ? settled->second : foreseen_runtime(plan.microbatch));
}

void NeedsMeter::settle(const TrainingPlan& plan) {
  // What the small passes have left is no need of the plan, and a process without it follows.
  if (!probed_here_ || !request_.may_start_afresh) settled_.try_emplace({plan.microbatch, plan.eval_microbatch}, runtime(plan));
}

bool NeedsMeter::has_failed(std::int64_t microbatch, const SegmentPlan& segments, std::uint64_t cap) const {
  return std::any_of(failed_.begin(), failed_.end(), [&](const Training& failed) { return failed.microbatch == microbatch && failed.segments == segments && cap <= failed.bytes; });
}

// What a card, the system or the store lacks today may be there tomorrow.
void NeedsMeter::note_failure(std::int64_t microbatch, const SegmentPlan& segments, std::uint64_t cap) {
  if (memory_.in_host() && !segments.offload.any() && CappedAllocator::install().last_refusal().at_cap) failed_.push_back({microbatch, segments, cap, 0});
}

// Of a model that names none, the one that the plan makes of it stays known.
void NeedsMeter::note_segments(const std::vector<std::string>& seen) {
  const std::string around = std::string(whole_model) + "/";
  std::vector<std::string> own;
  for (const auto& path : seen)
    if (path.starts_with(around)) own.push_back(path.substr(around.size()));
  if (!own.empty())
    throw Error(Code::configuration, fmt::format("\"{}\" is the one segment of a model that names none, and this model names its own", whole_model), "write those in plan.checkpoint and plan.offload: " + join(own, ", "));
  if (!seen.empty() || !names_none()) segments_ = seen;
}

bool NeedsMeter::names_none() const {
  if (trained_.empty()) return false;
  return segments_.empty() || (segments_.size() == 1 && segments_.front() == whole_model);
}

void NeedsMeter::note(BesidePass seen) {
  if (beside_pass_.draws.empty()) beside_pass_.draws = std::move(seen.draws);
  if (beside_pass_.norm.empty()) beside_pass_.norm = std::move(seen.norm);
  if (beside_pass_.statistics.empty()) beside_pass_.statistics = std::move(seen.statistics);
}

void NeedsMeter::train_long(const SegmentPlan& segments, SegmentObserver& observer) {
  LossOfZeros loss(*request_.loss);
  std::vector<at::Tensor> of_clips_before;
  if (!request_.one_pass)
    for (auto& weight : request_.model->weights())
      if (weight.tensor.requires_grad()) of_clips_before.push_back(at::zeros_like(weight.tensor));
  LongClip clip(*request_.model, {true, &segments, &observer, request_.arithmetic});
  for_some_chunks(*request_.train, request_.clip_frames, request_.chunking, [&](const Microbatch& chunk, const ChunkPlace& place) { clip.encode(chunk, place); });
  static_cast<void>(clip.learn(loss, request_.classes));
  // The one with a halo on each side: the largest.
  const auto place = chunk_at(request_.clip_frames, request_.chunking, std::min<std::int64_t>(1, chunks_of(request_.clip_frames, request_.chunking) - 1));
  clip.backward(request_.train->zeros(1, request_.train->with_frames(place.last - place.first)), place);
}

void NeedsMeter::train_once(std::int64_t clips, const SegmentPlan& segments, SegmentObserver& observer) {
  LossOfZeros loss(*request_.loss);
  StepOptions options;
  options.microbatch = clips;
  options.classes = request_.classes;
  options.segments = segments;
  BesideWatch watch(*request_.model, &observer);
  options.observer = &watch;
  options.arithmetic = request_.arithmetic;
  Step step(*request_.model, loss, *request_.optimizer, options);
  const SameStatistics before(*request_.model);
  try {
    if (request_.chunking.on()) {
      train_long(segments, watch);
    } else if (!request_.one_pass) {
      for (auto& weight : request_.model->weights())
        if (weight.tensor.requires_grad()) weight.tensor.mutable_grad() = at::zeros_like(weight.tensor);
    }
    if (!request_.chunking.on()) step.add_gradients({[&] { return request_.train->zeros(clips, request_.train->largest()); }});
  } catch (...) {
    step.drop_gradients();
    throw;
  }
  step.drop_gradients();
  BesidePass seen = watch.seen();
  if (request_.norms_decide) seen.norm.clear();
  else seen.statistics = SameStatistics::moved(*request_.model, before);
  note(std::move(seen));
}

// Every segment by name is every segment.
const NeedsMeter::Training* NeedsMeter::known_training(std::int64_t clips, const SegmentPlan& wanted) const {
  const auto names = [&](const Segments& segments) { return names_of(segments, segments_); };
  for (const auto& known : trained_)
    if (known.microbatch == clips && (known.segments == wanted || (names(known.segments.twice) == names(wanted.twice) && names(known.segments.offload) == names(wanted.offload))))
      return &known;
  return nullptr;
}

const NeedsMeter::Evaluated* NeedsMeter::known_evaluation(std::int64_t clips) const {
  const auto known = std::find_if(evaluated_.begin(), evaluated_.end(), [clips](const Evaluated& one) { return one.clips == clips; });
  return known == evaluated_.end() ? nullptr : &*known;
}

std::optional<std::uint64_t> NeedsMeter::training(std::int64_t clips, const TrainingPlan& plan, std::uint64_t cap) {
  const auto* known = known_training(clips, plan.segments);
  if (known && (known->here || known->bytes > cap || is_settled(plan))) return known->bytes <= cap ? std::optional(known->bytes) : std::nullopt;
  if (!known && has_failed(clips, plan.segments, cap)) return std::nullopt;
  std::uint64_t stored = 0;
  const auto bytes = measure(cap, work_of(clips, plan.segments), [&] {
    PassRecorder recorder(memory_);
    train_once(clips, plan.segments, recorder);
    const Weighed weighed = recorder.weighed();
    stored = weighed.stored;
    note_segments(recorder.seen());
    return weighed;
  });
  if (bytes && known) {
    trained_[static_cast<std::size_t>(known - trained_.data())].here = true;
    return known->bytes;  // as it was known: one file gives one plan
  }
  if (bytes) trained_.push_back({clips, plan.segments, *bytes, stored, true});
  else note_failure(clips, plan.segments, cap);
  return bytes && *bytes <= cap ? bytes : std::nullopt;
}

std::optional<std::uint64_t> NeedsMeter::measured(const TrainingPlan& plan) const {
  const auto* known = known_training(plan.microbatch, plan.segments);
  return known ? std::optional(known->bytes) : std::nullopt;
}

std::optional<std::uint64_t> NeedsMeter::evaluation(std::int64_t clips, const TrainingPlan& plan, std::uint64_t cap) {
  const auto* known = known_evaluation(clips);
  if (known && (known->here || known->bytes > cap || is_settled(plan))) return known->bytes <= cap ? std::optional(known->bytes) : std::nullopt;
  const auto bytes = measure(cap, forward_share * static_cast<double>(clips), [&] {
    PassRecorder recorder(memory_);
    const at::NoGradGuard no_grad;
    request_.model->set_training(false);
    if (request_.chunking.on()) {
      LongClip clip(*request_.model, {.arithmetic = request_.arithmetic});
      for_some_chunks(*request_.eval, request_.clip_frames, request_.chunking, [&](const Microbatch& chunk, const ChunkPlace& place) { clip.encode(chunk, place); });
      const Outputs outputs = clip.outputs();
      if (request_.loss) LossOfZeros(*request_.loss)(outputs, clip.inputs(), clip.host());
      return recorder.weighed();
    }
    const Microbatch microbatch = request_.eval->zeros(clips, request_.eval->largest());
    MicrobatchPass pass(false, microbatch.keys);
    const Outputs outputs = forward_in(request_.arithmetic, *request_.model, microbatch.inputs, pass);
    if (request_.loss) LossOfZeros(*request_.loss)(outputs, microbatch.inputs, microbatch.host);
    return recorder.weighed();
  });
  if (bytes && known) {
    evaluated_[static_cast<std::size_t>(known - evaluated_.data())].here = true;
    return known->bytes;
  }
  if (bytes) evaluated_.push_back({clips, *bytes, true});
  return bytes && *bytes <= cap ? bytes : std::nullopt;
}

const std::vector<KernelCall>& NeedsMeter::kernels(std::uint64_t cap) {
  if (!kernels_.empty() || !request_.arithmetic.reduced()) return kernels_;
  const Assembler& assembler = request_.train ? *request_.train : *request_.eval;
  for (const std::int64_t clips : {2, 1}) {
    const auto measured = measure(cap, forward_share * static_cast<double>(clips), [&] {
      PassRecorder recorder(memory_);
      const at::NoGradGuard no_grad;
      request_.model->set_training(request_.train != nullptr);
      if (request_.chunking.on()) {
        kernels_ = calls_of([&] {
          LongClip clip(*request_.model, {.training = request_.train != nullptr, .arithmetic = request_.arithmetic});
          for_some_chunks(assembler, request_.clip_frames, request_.chunking, [&](const Microbatch& chunk, const ChunkPlace& place) { clip.encode(chunk, place); });
          static_cast<void>(clip.outputs());
        });
        return recorder.weighed();
      }
      const Microbatch microbatch = assembler.zeros(clips, assembler.largest());
      kernels_ = calls_of([&] {
        MicrobatchPass pass(request_.train != nullptr, microbatch.keys);
        static_cast<void>(forward_in(request_.arithmetic, *request_.model, microbatch.inputs, pass));
      });
      return recorder.weighed();
    });
    if (measured) break;
  }
  return kernels_;
}

void NeedsMeter::follow(const std::vector<std::string>& routed) {
  if (routed == routed_) return;
  routed_ = routed;
  trained_.clear();
  failed_.clear();
  evaluated_.clear();
  traces_.clear();
  offload_traces_.clear();
  foreseen_.clear();
  settled_.clear();
  model_.reset();
}

const PassTrace* NeedsMeter::trace(std::int64_t clips, std::uint64_t cap, bool offload) {
  auto& known = offload ? offload_traces_ : traces_;
  if (const auto found = known.find(clips); found != known.end()) return &found->second;
  PassTrace trace;
  const bool one = request_.store > 0 && names_none();
  SegmentPlan segments;
  Segments& every = offload ? segments.offload : segments.twice;
  if (one) every.names.emplace(whole_model);
  else every.all = true;
  if (has_failed(clips, segments, cap)) return nullptr;
  std::uint64_t stored = 0;
  const auto bytes = measure(cap, work_of(clips, segments), [&] {
    PassRecorder recorder(memory_);
    train_once(clips, segments, recorder);
    trace = recorder.finish(clips);
    const Weighed weighed = recorder.weighed();
    stored = weighed.stored;
    note_segments(recorder.seen());
    return weighed;
  });
  if (!bytes) note_failure(clips, segments, cap);
  if (bytes && known_training(clips, segments) == nullptr) trained_.push_back({clips, segments, *bytes, stored, true});
  if (bytes) foreseen_[clips] = kept_;
  probed_here_ = probed_here_ || request_.largest > 2;
  if (bytes && *bytes > cap) return nullptr;
  if (bytes && !one && request_.store > 0 && names_none()) return this->trace(clips, cap, offload);  // as one segment, now that it is known
  return bytes ? &known.emplace(clips, std::move(trace)).first->second : nullptr;
}

// What a pass leaves in the libraries, the next cannot have; and more clips leave more: half as much again was the most that was seen.
std::uint64_t NeedsMeter::less_kept_since(std::uint64_t kept, std::uint64_t cap) const { return cap - std::min(cap, kept_ - kept + kept_ / 2); }

const MemoryModel* NeedsMeter::model(std::uint64_t cap) {
  if (model_) return &*model_;
  if (request_.largest < 3) return nullptr;
  // A start that had nowhere to offload to left passes of a model that names no segments, which is one from here on.
  if (!traces_.empty() && traces_.begin()->second.segments.empty() && request_.store > 0 && names_none()) traces_.clear();
  // One clip first: what the libraries keep of it alone is what the smallest plan needs.
  const auto kept = kept_;
  for (const std::int64_t clips : {1, 2, 3})
    if (trace(clips, less_kept_since(kept, cap), false) == nullptr) return nullptr;
  model_.emplace(traces_.at(2), traces_.at(3), traces_.at(1));
  if (request_.store == 0) return &*model_;
  for (const std::int64_t clips : {1, 2, 3})
    if (trace(clips, less_kept_since(kept, cap), true) == nullptr) return &*model_;
  model_->learn_offload(offload_traces_.at(2), offload_traces_.at(3), offload_traces_.at(1));
  return &*model_;
}

std::uint64_t NeedsMeter::stored(const TrainingPlan& plan) const {
  const auto* known = known_training(plan.microbatch, plan.segments);
  return known && known->stored > 0 ? with_margin(known->stored) : 0;
}

// Where no plan takes more clips.
NeedsMeter::FewClips NeedsMeter::with_offload(FewClips few, std::uint64_t kept, std::uint64_t cap) {
  if (request_.store == 0 || request_.largest > 2) return few;
  const PassTrace* one = trace(1, less_kept_since(kept, cap), true);
  if (one == nullptr) return few;
  const PassTrace* two = few.most < 2 ? nullptr : trace(2, less_kept_since(kept, cap), true);
  if (two || few.most < 2) few.model.learn_offload(*one, two ? *two : as_two(*one), *one);
  return few;
}

std::optional<NeedsMeter::FewClips> NeedsMeter::model_of_few(std::uint64_t cap) {
  const auto kept = kept_;
  const PassTrace* one = trace(1, cap, false);
  if (one == nullptr) return std::nullopt;
  if (const PassTrace* two = request_.largest < 2 ? nullptr : trace(2, less_kept_since(kept, cap), false)) return with_offload({MemoryModel(*one, *two, *one), 2}, kept, cap);
  return with_offload({MemoryModel(*one, as_two(*one), *one), 1}, kept, cap);
}

}  // namespace sluice
