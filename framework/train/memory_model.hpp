// What a training pass will weigh under a plan, from two small passes that were watched; and the least of its segments to checkpoint
// so that it fits. Arithmetic alone: no tensor.
//
//   const MemoryModel model(trace_of_2_clips, trace_of_3_clips);
//   model.peak(16, {"stem"});                       // bytes above what lived before the pass
//   model.cheapest(16, 700 * MiB);                  // what to checkpoint, or nothing when nothing helps
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace sluice {

// One segment of a pass in which every segment was checkpointed. Bytes above what lived before the pass.
struct SegmentTrace {
  std::string name;
  std::uint64_t forward_start = 0, forward_peak = 0;             // of its first run
  std::uint64_t again_start = 0, again_peak = 0, again_end = 0;  // of its second run
  std::uint64_t backward_peak = 0;  // from there on, until the segment before it runs again
  std::uint64_t output = 0;         // bytes of what it returns
  bool saves_output = false;        // its own backward pass needs them
  bool operator==(const SegmentTrace&) const = default;
};

struct PassTrace {
  std::int64_t clips = 0;
  std::vector<SegmentTrace> segments;  // in their order; those that ran again
  std::uint64_t rest_peak = 0;         // after the last segment: head, loss, and their backward pass
  std::uint64_t peak = 0;              // of all
  bool operator==(const PassTrace&) const = default;
};

class MemoryModel {
 public:
  // Two traces of the same segments at different numbers of clips (two and three: from two on the peak is a line). A single clip is
  // off that line, for kernels choose other ways for it: it has a trace of its own, and counts for every larger number too, for a batch may
  // leave a rest of one. Throws Error(Code::plugin) when the segments differ.
  MemoryModel(PassTrace fewer, PassTrace more, std::optional<PassTrace> single = {});

  [[nodiscard]] std::vector<std::string> segments() const;
  // Bytes that a segment keeps for its backward pass when it is not checkpointed.
  [[nodiscard]] std::uint64_t kept_by(const std::string& segment, std::int64_t clips) const;

  [[nodiscard]] std::uint64_t peak(std::int64_t clips, const std::set<std::string, std::less<>>& checkpointed) const;

  struct Choice {
    std::set<std::string, std::less<>> checkpointed;
    std::uint64_t peak = 0;
    double cost = 0;  // share of the kept bytes that are made twice, 0 to 1
  };
  // The exact optimum by dynamic programming over the order of the segments: of all choices whose peak is at most `cap` the one with
  // the fewest bytes made twice, of those the one with the fewest segments, then the first in the order of segments. `allowed` limits
  // it to these segments. Empty: no choice fits.
  [[nodiscard]] std::optional<Choice> cheapest(std::int64_t clips, std::uint64_t cap, const std::set<std::string, std::less<>>* allowed = nullptr) const;
  // The choice with the lowest peak.
  [[nodiscard]] Choice smallest(std::int64_t clips, const std::set<std::string, std::less<>>* allowed = nullptr) const;

 private:
  struct Part {  // of one segment, for a number of clips; what the segments before it keep comes on top
    std::uint64_t plain_peak = 0, checkpointed_peak = 0, kept = 0;
  };
  struct Parts {
    std::vector<Part> segments;
    std::uint64_t rest_peak = 0;
  };
  [[nodiscard]] static Part part_of(const SegmentTrace& segment);
  [[nodiscard]] Parts parts(std::int64_t clips) const;
  PassTrace fewer_, more_;
  std::optional<PassTrace> single_;
};

}  // namespace sluice
