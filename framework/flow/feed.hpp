// Feed: runs the stages over the samples of a run, in bounded memory, and hands the trainer one logical batch after another.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <sluice/array.hpp>

#include "framework/flow/chunks.hpp"
#include "framework/flow/dataset.hpp"
#include "framework/memory/ledger.hpp"

namespace sluice {

// One pass over a split. All phases of a run form one sequence of admission.
struct Phase {
  enum class Kind { train, eval } kind = Kind::train;
  std::uint64_t epoch = 0;       // of the training; keys shuffling and random numbers. Evaluation uses 0.
  std::int64_t first_batch = 0;  // start here (resume)
};

// A sample at the end of its chain. The arrays go back to the pool before the lease gives their bytes back. Destroy the batch
// before asking for the next one: the smallest cap that works holds one batch, not two.
struct FinishedSample {
  std::int64_t index = 0;   // in its split
  std::uint64_t number = 0; // position in the phase's order
  std::uint64_t key = 0;    // what `pass.dropout` draws by: a hash of (seed, epoch, index)
  Lease lease;  // before the arrays: members are destroyed in reverse
  std::vector<std::pair<std::string, Array>> arrays;  // sorted by stream name
  std::vector<std::pair<std::string, std::string>> texts;
};

// Batch b of a phase: numbers [b x size, (b + 1) x size) minus what failed. Empty samples with failed ones is possible.
// A phase with nothing (left) in it gives one empty batch with `last` set, so that every phase ends where the trainer sees it.
//
// Where clips go through in chunks (Options::chunking), each chunk comes by itself, in order: clip after clip, all chunks of a pass one
// after the other. A clip of which a chunk failed is to be forgotten: the failure comes once, and nothing more of the clip.
struct Batch {
  std::uint64_t phase = 0;  // index in the sequence of phases
  std::int64_t index = 0;   // within the phase
  bool last = false;        // of the phase
  std::optional<ChunkPlace> chunk{};  // one chunk of a clip, or (without a sample) what is left of a clip that failed
  std::vector<FinishedSample> samples;
  std::vector<Failed> failed;
  // State of the ordered stages that have some, as of this batch's last sample: (stage, bytes). A checkpoint keeps that of the
  // batch which was trained on last, and a resumed feed gets it back in Options::states.
  std::vector<std::pair<std::string, std::string>> states;

  [[nodiscard]] bool complete() const { return !chunk || chunk->ends_batch; }
  // Samples that are through with it, for better or worse.
  [[nodiscard]] std::int64_t clips() const { return chunk ? (chunk->ends_clip ? 1 : 0) : static_cast<std::int64_t>(samples.size() + failed.size()); }
};

// What is going on, for the live line, the watchdog and `inspect`. All counters are since the start.
struct FeedStatus {
  struct Queue {
    std::string edge;  // "decode.ffmpeg -> augment.hflip"
    std::int64_t items = 0;
    std::int64_t limit = 0;
  };
  struct Running {
    std::string stage;
    std::string sample;  // "sample 17 of train (list.csv:18)"
    double seconds = 0;
  };
  std::uint64_t admitted = 0, finished = 0, failed = 0;
  std::uint64_t leased = 0, cap = 0;
  std::uint64_t refused = 0;  // blocks for which the system had no memory: their calls are made again
  std::int64_t in_flight = 0, in_flight_limit = 0;
  std::string waiting_for;  // "the trainer", "bytes for sample 17 (12 MiB)", "decode.ffmpeg on sample 3 (2.1 s)", ...
  double waiting_seconds = 0;    // for how long
  std::vector<Running> running;  // stage calls on their way, the longest first
  std::vector<Queue> queues;
};

class Feed {
 public:
  struct Options {
    std::int64_t workers = 1;      // threads that run stages
    std::int64_t in_flight = 0;    // samples; 0: derived from the bytes
    std::int64_t batch_size = 1;
    std::int64_t eval_batch_size = 1;
    bool drop_last = false;
    std::uint64_t seed = 0;
    std::int64_t batches_ahead = 2;  // finished batches that may wait for the trainer; more where that few would not fill in_flight
    bool shuffle = true;
    Chunking chunking{};           // off: clips go through whole
    std::vector<std::pair<std::string, std::string>> states{};  // Batch::states of the batch before the first
    std::pair<std::uint64_t, std::uint64_t> fail_at{};  // FramePool::fail_at(); for tests of recovery
    bool trains = true;     // false: its phases evaluate alone, so that a batch of the training need not fit
    bool check_cap = true;  // false only in the test that shows what the check prevents
  };
  // `phase(n)` gives the n-th phase of the run, nothing when the run ends; called from the admission thread, in order.
  // Throws Code::configuration when the ledger's cap is below what a batch of median samples needs (SampleBounds::smallest).
  // Dataset, stages and ledger outlive the feed; the ledger also outlives the batches.
  Feed(const Dataset& dataset, Stages& stages, Ledger& samples, Options options, std::function<std::optional<Phase>(std::uint64_t)> phase);
  ~Feed();  // stops, waits for the stage calls on their way, joins

  // The next batch, in order; nothing after the last phase or after stop(). Throws what ended the flow (a plugin that broke its contract).
  [[nodiscard]] std::optional<Batch> next();
  void stop();  // from any thread, also a signal's housekeeping thread; next() returns nothing soon after
  [[nodiscard]] FeedStatus status() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The graph that the stages become, for `inspect FILE.toml`: one line a node and edge with bounds in bytes and items.
struct GraphNode {
  std::string name;
  std::vector<std::string> reads, writes;
  std::vector<std::string> after;  // names of the nodes it waits for
  std::uint64_t bytes = 0;         // upper bound while it runs, for the largest sample
  bool parallel = true;
};
std::vector<GraphNode> describe_graph(const Dataset& dataset, const Stages& stages, Split split);
// Checks the streams of the stages alone, before a plugin is loaded: a cycle, a stream that nobody writes, two unordered writers. Throws with a place.
void check_streams(const Pipeline& pipeline, const Registry& registry);

}  // namespace sluice
