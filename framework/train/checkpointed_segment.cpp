// Each tensor that the graph saves becomes a number. The first that is asked for by its number brings all of them back.
#include "framework/train/checkpointed_segment.hpp"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <ATen/Context.h>
#include <ATen/ThreadLocalState.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/Generator.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/GradMode.h>

#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/train/lost_device.hpp"
#include "framework/train/saved_tensors.hpp"

namespace sluice {
namespace {

using Tensors = std::vector<at::Tensor>;

// Ends the second run of a segment from within the operation that saved the last tensor wanted. No std::exception: nothing that a
// plugin catches by habit.
struct Enough {};

// Random numbers drawn outside of the Pass come from the default generators.
class RandomState {
 public:
  explicit RandomState(at::Device device) {
    remember(at::kCPU);
    if (!device.is_cpu()) remember(device);
  }
  void apply() const {
    for (auto [generator, state] : generators_) generator.set_state(state);
  }

 private:
  void remember(at::Device device) {
    const at::Generator& generator = at::globalContext().defaultGenerator(device);
    generators_.emplace_back(generator, generator.get_state());
  }
  std::vector<std::pair<at::Generator, at::Tensor>> generators_;
};

class AutocastState {
 public:
  explicit AutocastState(at::Device device) : cache_(at::autocast::is_autocast_cache_enabled()) {
    remember(at::kCPU);
    if (!device.is_cpu()) remember(device.type());
  }
  void apply() const {
    at::autocast::set_autocast_cache_enabled(cache_);
    for (const auto& [type, enabled, dtype] : devices_) {
      at::autocast::set_autocast_enabled(type, enabled);
      at::autocast::set_autocast_dtype(type, dtype);
    }
  }

 private:
  struct OfDevice {
    at::DeviceType type;
    bool enabled;
    at::ScalarType dtype;
  };
  void remember(at::DeviceType type) { devices_.push_back({type, at::autocast::is_autocast_enabled(type), at::autocast::get_autocast_dtype(type)}); }
  bool cache_;
  std::vector<OfDevice> devices_;
};

// As it is now, again when this goes.
template <class State> class Restored {
 public:
  explicit Restored(at::Device device) : state_(device) {}
  ~Restored() {
    put_back([this] { state_.apply(); });
  }
  Restored(const Restored&) = delete;
  Restored& operator=(const Restored&) = delete;

 private:
  State state_;
};

// Running statistics move in the first run alone. They are written past the version counter: batch norm saves them for its backward
// pass and reads nothing of them there, but autograd compares versions.
class SameStatistics {
 public:
  explicit SameStatistics(std::span<const at::Tensor> statistics) : statistics_(statistics) {
    const at::NoGradGuard no_grad;
    for (const auto& statistic : statistics_) before_.push_back(statistic.clone());
  }
  ~SameStatistics() {
    put_back([this] {
      const at::NoGradGuard no_grad;
      for (std::size_t i = 0; i < before_.size(); ++i) statistics_[i].variable_data().copy_(before_[i]);
    });
  }
  SameStatistics(const SameStatistics&) = delete;
  SameStatistics& operator=(const SameStatistics&) = delete;

 private:
  std::span<const at::Tensor> statistics_;
  Tensors before_;
};

std::string text_of(at::IntArrayRef sizes, at::ScalarType type) {
  std::string text;
  for (const auto size : sizes) text += (text.empty() ? "" : "x") + std::to_string(size);
  return fmt::format("{} [{}]", c10::toString(type), text);
}

class Checkpointed : public std::enable_shared_from_this<Checkpointed> {
 public:
  explicit Checkpointed(SegmentRun run)
      : run_(std::move(run)), device_(run_.inputs.empty() ? at::Device(at::kCPU) : run_.inputs.front().device()), random_(device_), autocast_(device_) {
    for (const auto& input : run_.inputs) {
      versions_.push_back(input._version());
      needs_gradient_.push_back(input.requires_grad());
    }
  }

  Tensors first_run() {
    Tensors out;
    {
      const SavedTensorScope scope([self = shared_from_this()] { return std::make_unique<Dropped>(self); });
      out = run_.function(run_.inputs);
    }
    check_inputs("it changes an input in place", "a segment may be run again from its inputs: work on a copy, e.g. relu() for relu_()");
    if (run_.observer && saves_any(out)) run_.observer->saves_output(run_.name);
    // From here on what is kept are the bytes, not the graph before them.
    for (auto& input : run_.inputs) input = input.detach();
    return out;
  }

 private:
  struct Slot {
    std::vector<std::int64_t> sizes;
    at::ScalarType type;
    bool wanted = true;  // the graph has not let go of it
    at::Tensor tensor{};
    std::int64_t version = 0;        // of `tensor`
    std::int64_t first_version = 0;  // of what the first run saved
    // Not the bytes: who it was. While this is kept no other storage gets its address.
    c10::weak_intrusive_ptr<c10::StorageImpl> storage{c10::intrusive_ptr<c10::StorageImpl>()};
  };

  // In the first run: keeps the place of a saved tensor.
  class Dropped final : public SavedTensorHooks {
   public:
    explicit Dropped(std::shared_ptr<Checkpointed> segment) : segment_(std::move(segment)) {}
    ~Dropped() override {
      if (placed_) segment_->let_go(place_);
    }
    void call_pack_hook(const at::Tensor& tensor) override {
      place_ = segment_->new_place(tensor);
      placed_ = true;
    }
    at::Tensor call_unpack_hook() override { return segment_->tensor_at(place_); }

   private:
    std::shared_ptr<Checkpointed> segment_;
    std::size_t place_ = 0;
    bool placed_ = false;
  };

  // In the second run: fills the places in the order of the first.
  class Refilled final : public SavedTensorHooks {
   public:
    explicit Refilled(Checkpointed& segment) : segment_(segment) {}
    void call_pack_hook(const at::Tensor& tensor) override { segment_.fill_next(tensor); }
    at::Tensor call_unpack_hook() override { throw Error(Code::plugin, fmt::format("the segment '{}' runs a backward pass of its own", segment_.run_.name)); }

   private:
    Checkpointed& segment_;
  };

  std::size_t new_place(const at::Tensor& tensor) {
    slots_.push_back({tensor.sizes().vec(), tensor.scalar_type()});
    slots_.back().first_version = tensor._version();
    if (tensor.has_storage()) slots_.back().storage = tensor.storage().getWeakStorageImpl();
    return slots_.size() - 1;
  }

  [[nodiscard]] bool saves_any(const Tensors& outputs) const {
    for (const auto& output : outputs)
      for (const auto& slot : slots_)
        if (slot.storage._unsafe_get_target() == output.storage().unsafeGetStorageImpl()) return true;
    return false;
  }

  void let_go(std::size_t place) {
    slots_[place].wanted = false;
    slots_[place].tensor.reset();
  }

  at::Tensor tensor_at(std::size_t place) {
    if (!slots_[place].tensor.defined()) second_run();
    const Slot& slot = slots_[place];
    if (!slot.tensor.defined())
      throw Error(Code::plugin, fmt::format("the segment '{}' saved {} tensors in its first run and {} in its second", run_.name, slots_.size(), filled_),
                  "a segment is a pure function of its inputs: nothing that another run changes may decide what it does");
    if (slot.tensor._version() != slot.version)
      throw Error(Code::plugin, fmt::format("the segment '{}' changes in place what its backward pass needs", run_.name), "work on a copy, e.g. relu() for relu_()");
    return slot.tensor;
  }

  void second_run() {
    if (!run_.function) throw Error(Code::plugin, fmt::format("the backward pass went through the segment '{}' twice", run_.name));
    check_inputs("an input was changed in place after it had run", "what goes into a segment is needed again in the backward pass: let the next layer work on a copy");
    if (run_.observer) run_.observer->runs_again(run_.name, true);
    {
      const at::ThreadLocalStateGuard thread_locals(thread_locals_);
      const Restored<AutocastState> autocast_now(device_);
      const Restored<RandomState> random_now(device_);
      const SameStatistics same_statistics(run_.statistics);
      autocast_.apply();
      random_.apply();
      const c10::AutoGradMode with_gradients(true);
      const SavedTensorScope scope([this] { return std::make_unique<Refilled>(*this); });
      Tensors inputs;
      for (std::size_t i = 0; i < run_.inputs.size(); ++i) inputs.push_back(run_.inputs[i].detach().set_requires_grad(needs_gradient_[i]));
      filled_ = 0;
      for (std::size_t place = 0; place < slots_.size(); ++place)
        if (slots_[place].wanted) last_wanted_ = place;
      try {
        run_.function(inputs);
      } catch (const Enough&) {
      }
    }
    // The inputs live on where the graph saved them.
    run_.function = nullptr;
    run_.inputs.clear();
    if (run_.observer) run_.observer->runs_again(run_.name, false);
  }

  void fill_next(const at::Tensor& tensor) {
    if (filled_ > last_wanted_) return;
    Slot& slot = slots_[filled_];
    if (tensor.sizes() != at::IntArrayRef(slot.sizes) || tensor.scalar_type() != slot.type)
      throw Error(Code::plugin, fmt::format("the segment '{}' made {} in its first run and {} in its second", run_.name, text_of(slot.sizes, slot.type), text_of(tensor.sizes(), tensor.scalar_type())),
                  "a segment is a pure function of its inputs: nothing that another run changes may decide what it does");
    if (was_changed(slot, tensor))
      throw Error(Code::plugin, fmt::format("the segment '{}' cannot be run again: a tensor that it captured, {}, was changed in place after it had run", run_.name, text_of(slot.sizes, slot.type)),
                  "what a segment captures is needed again in the backward pass: change a copy of it, or after the backward pass");
    if (slot.wanted) {
      slot.tensor = tensor.detach();
      slot.version = slot.tensor._version();
    }
    if (filled_++ == last_wanted_) throw Enough{};
  }

  // What has the storage that it had in the first run was made outside: a weight, or a tensor that the function captured. Statistics
  // move by themselves, and are put back.
  [[nodiscard]] bool was_changed(const Slot& slot, const at::Tensor& tensor) const {
    if (!tensor.has_storage() || tensor._version() == slot.first_version) return false;
    const auto* storage = tensor.storage().unsafeGetStorageImpl();
    return slot.storage._unsafe_get_target() == storage &&
           std::none_of(run_.statistics.begin(), run_.statistics.end(), [&](const at::Tensor& statistic) { return statistic.storage().unsafeGetStorageImpl() == storage; });
  }

  void check_inputs(const char* what, const char* hint) const {
    for (std::size_t i = 0; i < run_.inputs.size(); ++i)
      if (run_.inputs[i]._version() != versions_[i]) throw Error(Code::plugin, fmt::format("the segment '{}' cannot be run again: {}", run_.name, what), hint);
  }

  SegmentRun run_;
  at::Device device_;
  at::ThreadLocalState thread_locals_;
  RandomState random_;
  AutocastState autocast_;
  std::vector<std::int64_t> versions_;
  std::vector<bool> needs_gradient_;
  std::vector<Slot> slots_;
  std::size_t filled_ = 0;       // by the second run
  std::size_t last_wanted_ = 0;  // where it may stop
};

}  // namespace

std::vector<at::Tensor> run_checkpointed(SegmentRun run) { return std::make_shared<Checkpointed>(std::move(run))->first_run(); }

}  // namespace sluice
