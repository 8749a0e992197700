// Peak of a pass = what is fixed + what grows with the clips (affine from two clips on: FACTS). The microbatch itself is measured
// where it fits; where it does not, two and three clips tell what it would need.
#include "framework/train/needs.hpp"

#include <algorithm>
#include <functional>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Generator.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>

#include <nlohmann/json.hpp>

#include <sluice/error.hpp>

#include "framework/base/bytes.hpp"
#include "framework/memory/process.hpp"
#include "framework/state/files.hpp"
#include "framework/state/hash.hpp"
#include "framework/train/capped_allocator.hpp"
#include "framework/train/pass.hpp"
#include "framework/train/step.hpp"

namespace sluice {
namespace {

// Zeros may be no target that a loss takes; then the sum of all outputs stands for it, which keeps the same activations.
class LossOfZeros final : public Loss {
 public:
  explicit LossOfZeros(Loss& loss) : loss_(loss) {}
  LossValue operator()(const Outputs& outputs, const Inputs& inputs, const Inputs& host) override {
    try {
      LossValue value = loss_(outputs, inputs, host);
      if (value.weight > 0 && value.sum.defined()) return {value.sum, 1};
    } catch (const Error&) {
    }
    LossValue value;
    for (const auto& [name, tensor] : outputs)
      if (tensor.is_floating_point()) value.sum = value.sum.defined() ? value.sum + tensor.sum() : tensor.sum();
    value.weight = 1;
    return value;
  }

 private:
  Loss& loss_;
};

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
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < live_.size(); ++i) live_[i].copy_(before_[i]);
  }
  SameStatistics(const SameStatistics&) = delete;
  SameStatistics& operator=(const SameStatistics&) = delete;

 private:
  std::vector<at::Tensor> live_, before_;
};

std::uint64_t weight_bytes(Model& model) {
  std::uint64_t bytes = 0;
  for (const auto& item : model.weights())
    if (item.tensor.requires_grad() && item.tensor.is_cpu()) bytes += static_cast<std::uint64_t>(item.tensor.nbytes());
  return bytes;
}

// Bytes above what lives now, at the peak of the pass.
std::uint64_t peak_of(const std::function<void()>& pass) {
  auto& allocator = CappedAllocator::install();
  const auto before = allocator.counters().live;
  allocator.reset_peak();
  pass();
  return allocator.counters().peak - before;
}

std::uint64_t training_peak(const NeedsRequest& request, std::int64_t clips) {
  LossOfZeros loss(*request.loss);
  Step step(*request.model, loss, *request.optimizer, {clips, 0, request.classes});
  const auto make = [&] { return request.train->zeros(clips, request.train->largest()); };
  // From the second microbatch on, the gradients so far live beside the activations.
  const std::size_t passes = request.cut.microbatch < request.batch_size ? 2 : 1;
  const auto peak = peak_of([&] {
    try {
      step.accumulate(std::vector<std::function<Microbatch()>>(passes, make));
    } catch (...) {
      step.drop_gradients();
      throw;
    }
  });
  step.drop_gradients();
  return peak;
}

std::uint64_t evaluation_peak(const NeedsRequest& request, std::int64_t clips) {
  return peak_of([&] {
    const at::NoGradGuard no_grad;
    request.model->set_training(false);
    const Microbatch microbatch = request.eval->zeros(clips, request.eval->largest());
    PlainPass pass(false, microbatch.keys);
    const Outputs outputs = request.model->forward(microbatch.inputs, pass);
    if (request.loss) LossOfZeros(*request.loss)(outputs, microbatch.inputs, microbatch.host);
  });
}

// Room for what differs between zeros and frames: blocks are whole pages, shapes that vary meet in another order.
std::uint64_t with_margin(std::uint64_t bytes) { return bytes + bytes / 64 + MiB; }

struct Peak {
  std::uint64_t bytes = 0;
  std::uint64_t per_clip = 0;
  bool measured = true;
};

Peak peak_at(const std::function<std::uint64_t(std::int64_t)>& measure, std::int64_t clips, std::uint64_t cap) {
  auto& allocator = CappedAllocator::install();
  allocator.set_cap(cap);
  try {
    const auto bytes = measure(clips);
    allocator.set_cap(0);
    return {bytes, bytes / static_cast<std::uint64_t>(clips), true};
  } catch (const c10::OutOfMemoryError&) {
    allocator.trim();
  }
  // The budget is too small. What would be enough is worth more bytes than were allowed, but none that others need.
  allocator.set_cap(allocator.counters().live + free_memory() / 10 * 9);
  try {
    Peak peak;
    if (clips <= 3) {
      peak.bytes = measure(clips);
      peak.per_clip = peak.bytes / static_cast<std::uint64_t>(clips);
    } else {
      const auto two = measure(2), three = measure(3);
      peak.per_clip = std::max(three, two) - two;
      peak.bytes = std::max(two, three) + static_cast<std::uint64_t>(clips - 3) * peak.per_clip;
      peak.measured = false;
    }
    allocator.set_cap(0);
    return peak;
  } catch (const c10::OutOfMemoryError& error) {
    allocator.set_cap(0);
    throw Error(Code::configuration, "this machine has not enough free memory for even a few clips of this model: " + std::string(error.what_without_backtrace()),
                "use fewer or smaller frames, or a smaller model");
  }
}

}  // namespace

TensorNeeds measure_needs(const NeedsRequest& request) {
  auto& allocator = CappedAllocator::install();
  const SameRandomNumbers same_random_numbers;
  const SameStatistics same_statistics(*request.model);
  TensorNeeds needs;
  allocator.trim();
  const auto start = allocator.counters();
  const auto resident = resident_bytes();
  const bool new_peak = reset_peak_resident();
  needs.base = resident - std::min(resident, start.live);
  needs.parameters = start.of(Account::parameters);
  needs.optimizer = start.of(Account::optimizer);
  if (request.train) needs.gradients = weight_bytes(*request.model);

  const std::uint64_t taken = needs.base + request.others;
  const std::uint64_t cap = request.host_ram > taken ? std::max(request.host_ram - taken, start.live + 1) : start.live + 1;
  std::uint64_t footprint = start.live;
  const auto pass = [&](const std::function<std::uint64_t(std::int64_t)>& measure, std::int64_t clips) {
    const Peak peak = peak_at(measure, clips, cap);
    footprint = std::max(footprint, allocator.counters().peak);
    allocator.reset_peak();
    needs.measured = needs.measured && peak.measured;
    return peak;
  };
  if (request.train) {
    const Peak peak = pass([&](std::int64_t clips) { return training_peak(request, clips); }, request.cut.microbatch);
    const auto bytes = with_margin(peak.bytes);
    needs.activations = bytes - std::min(bytes, needs.gradients);
    needs.per_clip = peak.per_clip;
  }
  if (request.eval) {
    const Peak peak = pass([&](std::int64_t clips) { return evaluation_peak(request, clips); }, request.cut.eval_microbatch);
    const auto bytes = with_margin(peak.bytes), training = needs.activations + needs.gradients;
    if (bytes > training) needs.activations = bytes - needs.gradients;
    if (!request.train) needs.per_clip = peak.per_clip;
  }
  const auto peak_resident = new_peak ? peak_resident_bytes() : resident_bytes();
  const auto beside = peak_resident - std::min(peak_resident, footprint);
  needs.runtime = beside - std::min(beside, needs.base);
  allocator.trim();
  return needs;
}

namespace {

std::filesystem::path file_of(const std::filesystem::path& folder, const std::string& key) { return folder / ("needs-" + hash_of(key) + ".json"); }

}  // namespace

std::optional<TensorNeeds> recall_needs(const std::filesystem::path& folder, const std::string& key) {
  if (folder.empty()) return std::nullopt;
  try {
    const auto json = nlohmann::json::parse(read_file(system_disk(), file_of(folder, key), MiB));
    if (json.at("key").get<std::string>() != key) return std::nullopt;
    TensorNeeds needs;
    needs.base = json.at("base");
    needs.runtime = json.at("runtime");
    needs.parameters = json.at("parameters");
    needs.gradients = json.at("gradients");
    needs.optimizer = json.at("optimizer");
    needs.activations = json.at("activations");
    needs.per_clip = json.at("per_clip");
    needs.measured = json.at("measured");
    return needs;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

void remember_needs(const std::filesystem::path& folder, const std::string& key, const TensorNeeds& needs) {
  if (folder.empty()) return;
  const nlohmann::json json{{"key", key},
                            {"base", needs.base},
                            {"runtime", needs.runtime},
                            {"parameters", needs.parameters},
                            {"gradients", needs.gradients},
                            {"optimizer", needs.optimizer},
                            {"activations", needs.activations},
                            {"per_clip", needs.per_clip},
                            {"measured", needs.measured}};
  try {
    make_folders(system_disk(), folder);
    write_file(system_disk(), file_of(folder, key), json.dump(1));
  } catch (const std::exception&) {
  }
}

}  // namespace sluice
