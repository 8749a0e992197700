// What the tensors of a run need, measured: single passes over zeros at the largest shapes. What was measured once is kept for the
// next start.
//
//   NeedsMeter meter(request, cache_folder(), key);
//   meter.training({.microbatch = 4}, 700 * MiB);   // bytes at the peak of a pass, or nothing where they are more
//   meter.model(700 * MiB);                         // what other plans would need
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "framework/flow/chunks.hpp"
#include "framework/train/assemble.hpp"
#include "framework/train/beside_watch.hpp"
#include "framework/train/kernel_call.hpp"
#include "framework/train/memory_model.hpp"
#include "framework/train/precision.hpp"
#include "framework/train/tensor_memory.hpp"
#include "framework/train/training_plan.hpp"

#include <sluice/torch/network.hpp>
#include <sluice/torch/training.hpp>

namespace sluice {

struct TensorNeeds {
  std::uint64_t base = 0;         // resident beside the tensors before the first pass: libraries, listing, headers
  std::uint64_t start = 0;        // resident at the peak before that, while libraries were loaded and the network was built
  std::uint64_t runtime = 0;      // what the libraries keep beside the tensors while they work
  std::uint64_t parameters = 0;   // and statistics
  std::uint64_t gradients = 0;
  std::uint64_t optimizer = 0;
  std::uint64_t activations = 0;  // at the peak, of training or evaluation
  std::uint64_t offload = 0;      // activations that wait in host memory, which are none of the tensors
  [[nodiscard]] std::uint64_t tensors() const { return parameters + gradients + optimizer + activations; }
};

// Room for what differs between zeros and frames, or between a prediction and a measurement: blocks are whole pages, shapes that
// vary meet in another order.
[[nodiscard]] std::uint64_t with_margin(std::uint64_t bytes);

// What a pass showed: tensor bytes at its peak above what lived before; all memory of tensors with what was kept for reuse and what
// was offloaded; and the latter alone.
struct Weighed {
  std::uint64_t bytes = 0;
  std::uint64_t footprint = 0;
  std::uint64_t stored = 0;
};

struct NeedsRequest {
  at::Device device{at::kCPU};
  Model* model = nullptr;
  Loss* loss = nullptr;
  Optimizer* optimizer = nullptr;
  const Assembler* train = nullptr;  // null: no training, evaluation alone
  const Assembler* eval = nullptr;   // null: no evaluation
  std::int64_t batch_size = 1;
  std::int64_t classes = 0;
  Arithmetic arithmetic{};
  Chunking chunking{};               // of long clips, which go through one at a time
  std::int64_t clip_frames = 0;      // of the longest of them
  // It counts batch norm that is not frozen: the batch is cut as model.batch_norm says, so statistics over what is cut are known of.
  bool norms_decide = false;
  bool one_pass = true;              // a batch is one microbatch; otherwise the gradients of earlier ones live beside each
  // Of smaller passes of the same session, measured before: base counts from there, and the libraries keep no less.
  const TensorNeeds* of_smaller = nullptr;
  std::uint64_t store = 0;           // host memory that offloaded activations may take meanwhile; 0: nothing is offloaded
  std::int64_t largest = 3;          // microbatch of all plans: no more clips are measured at once
  bool may_start_afresh = false;     // what other passes than the plan's leave in the libraries need not be there
  bool after_probing = false;        // the process before this one measured the small passes, and this one took its place
  std::function<void()> progress{};  // before each pass
};

class NeedsMeter {
 public:
  // A file for each key in `folder`; an empty folder keeps nothing. What cannot be read or written is as if it were not there.
  NeedsMeter(NeedsRequest request, std::filesystem::path folder, std::string key);

  // All but the activations; `runtime` is the most that a pass of this process has shown.
  [[nodiscard]] TensorNeeds fixed() const {
    TensorNeeds fixed = fixed_;
    fixed.runtime = kept_;
    return fixed;
  }
  // What the libraries keep beside the tensors in a run of microbatches of that many clips. From the small passes: the same
  // whatever was measured since, so that one file gives one plan.
  [[nodiscard]] std::uint64_t foreseen_runtime(std::int64_t microbatch) const;
  // In a run by this plan, in this process: as was seen when it was settled, and no less than what has been left here.
  [[nodiscard]] std::uint64_t runtime(const TrainingPlan& plan) const;
  // All passes of a plan have been measured, those that were known already once more: what the libraries keep of several is less than of each by itself,
  // and more than of one.
  void settle(const TrainingPlan& plan);
  // Whether the small passes that a plan is chosen by were measured in this process, whose libraries keep something of each; not those of one and two clips where no
  // plan takes more.
  [[nodiscard]] bool probed_here() const { return probed_here_; }

  // Bytes above parameters and optimizer, gradients among them, at the peak of a microbatch, or of so many clips that a batch leaves over, with their
  // margin; nothing where they are more than `cap`.
  // Weights, statistics, optimizer state and random numbers are as before.
  [[nodiscard]] std::optional<std::uint64_t> training(std::int64_t clips, const TrainingPlan& plan, std::uint64_t cap);
  [[nodiscard]] std::optional<std::uint64_t> training(const TrainingPlan& plan, std::uint64_t cap) { return training(plan.microbatch, plan, cap); }
  // What training() measured, be it more than its `cap`; nothing where memory was short before the end.
  [[nodiscard]] std::optional<std::uint64_t> measured(const TrainingPlan& plan) const;
  // Bytes that the offloaded segments of a plan take in host memory, with their margin; of one that training() measured.
  [[nodiscard]] std::uint64_t stored(const TrainingPlan& plan) const;
  [[nodiscard]] std::optional<std::uint64_t> evaluation(std::int64_t clips, const TrainingPlan& plan, std::uint64_t cap);

  // The kernels in reduced precision that a forward pass calls; none where not even that of one clip is within `cap`.
  [[nodiscard]] const std::vector<KernelCall>& kernels(std::uint64_t cap);
  // What is computed in another way than the library's: measurements that were made otherwise are forgotten.
  void follow(const std::vector<std::string>& routed);

  // From passes of one, two and three clips within `cap`, which what the libraries keep from here on is part of; null where they need more. Where activations may be offloaded, a model that
  // names no segments is one: whole_model.
  [[nodiscard]] const MemoryModel* model(std::uint64_t cap);
  // Where three clips need more than `cap`, or no plan takes as many: of the two or the one that do not. Nothing where one clip does too.
  struct FewClips {
    MemoryModel model;
    std::int64_t most = 1;  // clips that it knows of
  };
  [[nodiscard]] std::optional<FewClips> model_of_few(std::uint64_t cap);
  // All that a training pass ran, by path; known after the first.
  [[nodiscard]] const std::vector<std::string>& segments() const { return segments_; }
  // Whether a training pass was measured and the model named none in it.
  [[nodiscard]] bool names_none() const;

  [[nodiscard]] const BesidePass& beside_pass() const { return beside_pass_; }

  [[nodiscard]] bool has_training() const { return request_.train != nullptr; }
  [[nodiscard]] bool has_evaluation() const { return request_.eval != nullptr; }
  [[nodiscard]] int passes() const { return passes_; }  // measured by this process
  // The work of these passes, as clips of a training step: a forward pass is a third of one, and what is computed twice a third more.
  [[nodiscard]] double clips() const { return clips_; }
  // Whether it is written, for the next start.
  bool remember() const;

  // As much as a measurement may take that goes beyond a budget to find out which one works: what the machine or cgroup has to spare.
  [[nodiscard]] static std::uint64_t to_spare();

 private:
  struct Training {
    std::int64_t microbatch = 0;
    SegmentPlan segments;
    std::uint64_t bytes = 0;
    std::uint64_t stored = 0;
    bool here = false;             // in this process
  };
  struct Evaluated {
    std::int64_t clips = 0;
    std::uint64_t bytes = 0;
    bool here = false;
  };
  bool recall();
  void measure_fixed();
  void measure_base();
  [[nodiscard]] std::uint64_t less_kept_since(std::uint64_t kept, std::uint64_t cap) const;
  [[nodiscard]] bool has_failed(std::int64_t microbatch, const SegmentPlan& segments, std::uint64_t cap) const;
  void note_failure(std::int64_t microbatch, const SegmentPlan& segments, std::uint64_t cap);
  // `clips`: as clips() counts them.
  std::optional<std::uint64_t> measure(std::uint64_t cap, double clips, const std::function<Weighed()>& pass);
  void note(BesidePass seen);
  void note_segments(const std::vector<std::string>& seen);
  void train_long(const SegmentPlan& segments, SegmentObserver& observer);
  void train_once(std::int64_t clips, const SegmentPlan& segments, SegmentObserver& observer);
  // Of a training pass that was measured.
  [[nodiscard]] const Training* known_training(std::int64_t clips, const SegmentPlan& segments) const;
  [[nodiscard]] const Evaluated* known_evaluation(std::int64_t clips) const;
  [[nodiscard]] bool is_settled(const TrainingPlan& plan) const { return settled_.contains({plan.microbatch, plan.eval_microbatch}); }
  [[nodiscard]] FewClips with_offload(FewClips few, std::uint64_t kept, std::uint64_t cap);
  [[nodiscard]] const PassTrace* trace(std::int64_t clips, std::uint64_t cap, bool offload);

  NeedsRequest request_;
  std::filesystem::path folder_;
  std::string key_;
  TensorNeeds fixed_;
  std::vector<Training> trained_;
  std::vector<Training> failed_;  // `bytes`: within which memory was short
  std::vector<Evaluated> evaluated_;
  std::map<std::int64_t, PassTrace> traces_;          // by clips: one, two and three, as far as they are known
  std::map<std::int64_t, PassTrace> offload_traces_;  // with every segment offloaded
  std::optional<MemoryModel> model_;
  std::vector<std::string> segments_;
  std::vector<KernelCall> kernels_;
  std::vector<std::string> routed_;
  BesidePass beside_pass_;
  TensorMemory memory_;
  int passes_ = 0;
  double clips_ = 0;
  std::uint64_t kept_ = 0;                         // beside the tensors, the most that a pass of this process has shown
  std::map<std::int64_t, std::uint64_t> foreseen_;  // by clips of a small pass: kept_ after it
  std::map<std::pair<std::int64_t, std::int64_t>, std::uint64_t> settled_;  // by microbatch and that of the evaluation: what runtime() was
  bool probed_here_ = false;
};

}  // namespace sluice
