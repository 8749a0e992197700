// What a training or evaluation pass took, by segment.
#pragma once

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/train/capped_allocator.hpp"
#include "framework/train/checkpointed_segment.hpp"
#include "framework/train/memory_model.hpp"
#include "framework/train/needs.hpp"
#include "framework/train/offload_store.hpp"
#include "framework/train/tensor_memory.hpp"

namespace sluice {

// Reads the allocator at every border of a segment. Whatever lies between two of them counts to what came before.
class PassRecorder final : public SegmentObserver {
 public:
  explicit PassRecorder(const TensorMemory& memory) : memory_(memory), start_(memory.counters().live), start_held_(memory.counters().held) {
    CappedAllocator::install().reset_peak();
    if (!memory.in_host()) memory.reset_peak();
    OffloadStore::instance().reset_peak();
  }

  void begins(const std::string& path) override {
    seen_.push_back(path);
    if (!outermost(path)) return;
    const auto before = lap();
    if (!trace_.segments.empty()) trace_.segments.back().forward_peak = std::max(trace_.segments.back().forward_peak, before.peak);
    SegmentTrace segment;
    segment.name = path;
    segment.forward_start = before.live;
    segment.forward_peak = before.peak;
    segment.moved = OffloadStore::instance().counters().taken;
    trace_.segments.push_back(std::move(segment));
  }
  void ends(const std::string& path, const std::vector<at::Tensor>& outputs) override {
    if (!outermost(path)) return;
    auto& segment = trace_.segments.back();
    const auto now = lap();
    segment.forward_peak = std::max(segment.forward_peak, now.peak);
    segment.forward_end = now.live;
    segment.moved = OffloadStore::instance().counters().taken - segment.moved;
    std::set<const void*> storages;
    for (const auto& output : outputs)
      if (storages.insert(output.storage().unsafeGetStorageImpl()).second) segment.output += output.storage().nbytes();
  }
  void saves_output(const std::string& path) override {
    if (outermost(path)) of(path).saves_output = true;
  }
  void comes_back(const std::string& path) override {
    if (!outermost(path)) return;
    backward_peak() = std::max(backward_peak(), lap().peak);
    in_backward_ = path;
  }
  void runs_again(const std::string& path, bool begins) override {
    if (!outermost(path)) return;
    const auto now = lap();
    auto& segment = of(path);
    if (begins) {
      backward_peak() = std::max(backward_peak(), now.peak);
      segment.again_start = now.live;
    } else {
      segment.again_peak = now.peak;
      segment.again_end = now.live;
      in_backward_ = path;
    }
  }
  // The pass is over.
  [[nodiscard]] PassTrace finish(std::int64_t clips) {
    const auto now = lap();
    backward_peak() = std::max(backward_peak(), now.peak);
    trace_.clips = clips;
    trace_.peak = peak_;
    return trace_;
  }
  // Above what lived at the beginning; and all of the tensors' memory, with what was kept for reuse.
  [[nodiscard]] Weighed weighed() {
    static_cast<void>(lap());
    const auto stored = OffloadStore::instance().counters().peak;
    // Of a card the blocks count that its allocator took from the driver; of the host what lives, for what waits for reuse has its own line.
    const auto bytes = memory_.in_host() ? peak_ : std::max(peak_, held_ - std::min(held_, start_held_));
    return {bytes, host_footprint_ + stored, stored};
  }
  [[nodiscard]] const std::vector<std::string>& seen() const { return seen_; }

 private:
  struct Lap {
    std::uint64_t live = 0, peak = 0;
  };
  static bool outermost(const std::string& path) { return path.find('/') == std::string::npos; }
  Lap lap() {
    const auto now = memory_.counters();
    host_footprint_ = std::max(host_footprint_, CappedAllocator::install().counters().footprint);
    memory_.reset_peak();
    const Lap lap{now.live - std::min(now.live, start_), now.peak - std::min(now.peak, start_)};
    peak_ = std::max(peak_, lap.peak);
    held_ = std::max(held_, now.footprint);
    return lap;
  }
  SegmentTrace& of(const std::string& path) {
    return *std::find_if(trace_.segments.begin(), trace_.segments.end(), [&](const SegmentTrace& segment) { return segment.name == path; });
  }
  // Of the part of the backward pass that is going on.
  std::uint64_t& backward_peak() { return in_backward_.empty() ? trace_.rest_peak : of(in_backward_).backward_peak; }

  const TensorMemory& memory_;
  std::uint64_t start_, start_held_;
  std::uint64_t peak_ = 0, held_ = 0, host_footprint_ = 0;
  PassTrace trace_;
  std::string in_backward_;
  std::vector<std::string> seen_;
};

}  // namespace sluice
