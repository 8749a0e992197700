// What a training pass will weigh under a plan, from two small passes that were watched; and the least of its segments to checkpoint
// or offload so that it fits. Arithmetic alone: no tensor.
//
//   MemoryModel model(trace_of_2_clips, trace_of_3_clips);
//   model.peak(16, {"stem"});                       // bytes above what lived before the pass
//   model.cheapest(16, 700 * MiB);                  // what to checkpoint, or nothing when nothing helps
//   model.learn_offload(offloaded_2_clips, offloaded_3_clips);
//   model.cheapest(16, 700 * MiB, {.store = 2 * GiB});   // what to checkpoint and what to offload
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace sluice {

// One segment of a pass in which every segment was checkpointed, or every one offloaded. Bytes above what lived before the pass.
struct SegmentTrace {
  std::string name;
  std::uint64_t forward_start = 0, forward_peak = 0, forward_end = 0;  // of its first run
  std::uint64_t again_start = 0, again_peak = 0, again_end = 0;  // of its second run
  std::uint64_t backward_peak = 0;  // from there on, until the segment before it runs again
  std::uint64_t output = 0;         // bytes of what it returns
  bool saves_output = false;        // its own backward pass needs them
  std::uint64_t moved = 0;          // to host memory, of one that was offloaded
  bool operator==(const SegmentTrace&) const = default;
};

struct PassTrace {
  std::int64_t clips = 0;
  std::vector<SegmentTrace> segments;  // in their order
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

  // The same passes with every segment offloaded: from here on segments may be. Throws Error(Code::plugin) when the segments differ.
  void learn_offload(PassTrace fewer, PassTrace more, std::optional<PassTrace> single = {});
  [[nodiscard]] bool knows_offload() const { return offload_.has_value(); }

  [[nodiscard]] std::vector<std::string> segments() const;
  // Bytes that a segment keeps for its backward pass when it is neither checkpointed nor offloaded.
  [[nodiscard]] std::uint64_t kept_by(const std::string& segment, std::int64_t clips) const;

  using Names = std::set<std::string, std::less<>>;
  // One in both is offloaded, as it is in a pass; unless nothing is known of that.
  [[nodiscard]] std::uint64_t peak(std::int64_t clips, const Names& checkpointed, const Names& offloaded = {}) const;
  // Bytes in host memory that these take.
  [[nodiscard]] std::uint64_t moved_by(const Names& offloaded, std::int64_t clips) const;

  // What may become of the segments.
  struct Ways {
    const Names* may_twice = nullptr;     // those that may be checkpointed; null: every one
    const Names* must_twice = nullptr;    // and those that are; null: none need be
    const Names* must_offload = nullptr;  // those that are offloaded; null: none need be
    std::uint64_t store = 0;              // bytes of host memory for those that may be offloaded beside them; 0: none is
    // What computing each segment twice costs, in whatever unit; null, or one of them missing: what it keeps stands for that.
    const std::map<std::string, double, std::less<>>* twice_costs = nullptr;
    double move_cost = 0.21;               // of a byte that goes out and comes back, where one that is computed twice costs 1
  };
  struct Choice {
    Names checkpointed, offloaded;
    std::uint64_t peak = 0;
    std::uint64_t store = 0;  // bytes in host memory
    double again = 0;         // what computing twice costs, as a share of what it would cost for all, 0 to 1
    double moved = 0;         // share of them that leave and come back
  };
  // The exact optimum by dynamic programming over the order of the segments: of all choices whose peak is at most `cap` the one that
  // costs least, of those the one that keeps least, then the one with the fewest segments, then the first in the order of segments.
  // Empty: no choice fits.
  [[nodiscard]] std::optional<Choice> cheapest(std::int64_t clips, std::uint64_t cap, const Ways& ways) const;
  [[nodiscard]] std::optional<Choice> cheapest(std::int64_t clips, std::uint64_t cap) const { return cheapest(clips, cap, Ways{}); }
  // The choice with the lowest peak.
  [[nodiscard]] Choice smallest(std::int64_t clips, const Ways& ways) const;
  [[nodiscard]] Choice smallest(std::int64_t clips) const { return smallest(clips, Ways{}); }

 private:
  struct Part {  // of one segment, for a number of clips; what the segments before it keep comes on top
    std::uint64_t plain_peak = 0, checkpointed_peak = 0, kept = 0;
    std::uint64_t offloaded_peak = 0, stays = 0, moved = 0;  // stays: what it keeps on the device though it is offloaded
  };
  struct Parts {
    std::vector<Part> segments;
    std::uint64_t rest_peak = 0;
  };
  struct Traces {  // at fewer and at more clips, and at one
    PassTrace fewer, more;
    std::optional<PassTrace> single;
  };
  enum class Way : std::uint8_t { plain, twice, offload };
  [[nodiscard]] static Part part_of(const SegmentTrace& segment, const SegmentTrace* offloaded);
  [[nodiscard]] static Traces checked(Traces traces, const PassTrace& like);
  [[nodiscard]] Parts parts(std::int64_t clips) const;
  [[nodiscard]] std::vector<std::uint64_t> twice_costs(const Parts& all, std::uint64_t total, const Ways& ways) const;
  Traces again_;                  // every segment checkpointed
  std::optional<Traces> offload_;  // every segment offloaded
};

}  // namespace sluice
