// Admission: one thread that takes sample after sample, in order, waits for its bytes, and lets it into the graph.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "framework/flow/activity.hpp"
#include "framework/flow/exchange.hpp"
#include "framework/flow/feed.hpp"
#include "framework/flow/graph.hpp"
#include "framework/flow/plan.hpp"

namespace sluice {

class Admission {
 public:
  struct Limits {  // by Split
    std::uint64_t largest[2] = {0, 0};  // a larger sample is a tombstone
    std::uint64_t batch_needs[2] = {0, 0};  // of the cap, by the rest of a batch: for the message
  };
  Admission(const Dataset::Impl& dataset, const Stages& stages, Ledger& ledger, FramePool& pool, const Feed::Options& options, const Limits& limits,
            std::function<std::optional<Phase>(std::uint64_t)> phase, Exchange& exchange, StageGraph& graph, ActivityBoard& board);

  // Runs until the last phase is admitted or the token asks to stop. The body of the thread.
  void run(const std::stop_token& token);

  // What it waits for: bytes for a sample. Nothing when it does not.
  struct Waiting {
    std::string what;
    double seconds = 0;
  };
  [[nodiscard]] std::optional<Waiting> waiting() const;

 private:
  struct Position {  // of a sample or a mark in the run
    std::uint64_t phase = 0;
    std::int64_t batch = 0;
    bool ends_batch = false, ends_phase = false, ends_run = false;
    std::optional<ChunkPlace> chunk{};
  };
  // The clip at hand, where clips go through in chunks.
  struct Clip {
    std::int64_t frames = 0;
    std::vector<std::vector<std::int64_t>> numbers{};  // of its frames, by video column
    std::shared_ptr<std::atomic<bool>> dropped{};
  };
  bool run_phase(std::uint64_t number, const Phase& phase, const std::stop_token& token);
  bool admit(const Phase& phase, const Position& position, Split split, std::int64_t index, std::uint64_t number, const std::stop_token& token);
  bool admit_in_chunks(const Phase& phase, const Position& position, Split split, std::int64_t index, std::uint64_t number, const std::stop_token& token);
  bool admit_mark(const Position& position, const Error* error, const std::stop_token& token);
  void send(SampleRecord& record, const Position& position);

  void describe(SampleRecord& record, const Phase& phase, Split split, std::int64_t index, std::uint64_t number) const;
  void count(const SampleRecord& record);  // into shape_
  void open(const SampleRecord& record);   // into clip_
  void measure(SampleRecord& record);
  bool lease(SampleRecord& record, const std::stop_token& token);  // false: asked to stop
  void fill(SampleRecord& record);
  [[nodiscard]] std::vector<std::int64_t> choose(const SampleRecord& record, std::size_t column);
  void put_numbers(SampleRecord& record, int stream, std::span<const std::int64_t> values, std::string_view axes);
  [[nodiscard]] const std::vector<double>* times_of(const VideoColumn& column, std::size_t row);

  const Dataset::Impl& dataset_;
  const Stages& stages_;
  Ledger& ledger_;
  FramePool& pool_;
  const Feed::Options& options_;
  const Limits limits_;
  std::function<std::optional<Phase>(std::uint64_t)> phase_;
  Exchange& exchange_;
  StageGraph& graph_;
  ActivityBoard& board_;
  Planner planner_;
  TimesCache times_;
  std::vector<std::uint64_t> keys_;  // by stage
  std::shared_ptr<const std::vector<double>> held_times_;
  SampleShape shape_;  // of the sample at hand
  Clip clip_;
  std::uint64_t sequence_ = 0;
  std::uint64_t batches_ = 0;

  mutable std::mutex mutex_;
  struct Wanted {
    std::int64_t index;
    std::uint64_t bytes;
    std::chrono::steady_clock::time_point since;
  };
  std::optional<Wanted> wanted_;
};

}  // namespace sluice
