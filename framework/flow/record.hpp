// A sample while it is in the graph. Stages on different streams touch different parts of it at the same time.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <sluice/array.hpp>
#include <sluice/error.hpp>

#include "framework/flow/chunks.hpp"
#include "framework/flow/plan.hpp"
#include "framework/memory/ledger.hpp"
#include "framework/memory/pool.hpp"

namespace sluice {

// What a stream holds at the moment.
struct Stream {
  enum class State : std::uint8_t { absent, text, array } state = State::absent;
  std::string text{};
  Array array{};

  void clear() {
    state = State::absent;
    std::string().swap(text);
    array = Array();
  }
};

// What became of a stage for this sample. Stages behind a failed one are skipped, all others run: so the set of failures,
// and with it the message, does not depend on timing.
enum class StageState : std::uint8_t { waiting, done, failed, skipped };

struct SampleRecord {
  SampleRecord(std::size_t streams, std::size_t stages, std::size_t nodes)
      : streams_of(streams), states(stages), failures(stages), saved(stages), arrivals(nodes) {}

  // Where it belongs.
  std::uint64_t sequence = 0;  // over all phases of the run, without gaps
  std::uint64_t phase = 0;
  std::int64_t batch = 0;
  bool ends_batch = false;
  bool ends_phase = false;
  bool ends_run = false;  // a mark without a sample, after the last phase
  bool mark = false;      // there is no sample in it
  std::optional<ChunkPlace> chunk;             // where clips go through in chunks: this one's place
  std::shared_ptr<std::atomic<bool>> dropped;  // of the clip whose chunk it is: an earlier chunk failed

  // What it is.
  Split split = Split::train;
  std::int64_t index = 0;
  std::uint64_t number = 0;
  std::uint64_t epoch = 0;
  std::uint64_t key = 0;
  std::shared_ptr<const SamplePlan> plan;
  std::vector<std::uint64_t> fingerprints;  // of its video files, as the columns

  // What it holds.
  Lease lease;
  std::mutex lease_mutex;
  std::shared_ptr<Tally> tally;  // makers: 0 is admission, i + 1 stage i
  std::vector<Stream> streams_of;

  // What happened to it.
  std::vector<StageState> states;
  std::vector<std::optional<Error>> failures;  // by stage
  std::optional<Error> refused;                // at admission
  std::vector<std::optional<std::string>> saved;  // by stage: its state behind the last sample of a batch
  std::vector<std::atomic<int>> arrivals;      // by node of the graph: predecessors that are done

  // The failure that counts: one that ends the run before one that drops the sample, and in the order of the stages.
  [[nodiscard]] const Error* failure() const {
    if (const auto* fatal = this->fatal()) return fatal;
    if (refused) return &*refused;
    for (const auto& failure : failures)
      if (failure) return &*failure;
    return nullptr;
  }
  // A broken contract or configuration ends the run; bad data and a disk that fails on one file drop the sample.
  [[nodiscard]] const Error* fatal() const {
    const auto ends_run = [](const Error& error) { return error.code() != Code::data && error.code() != Code::io; };
    if (refused && ends_run(*refused)) return &*refused;
    for (const auto& failure : failures)
      if (failure && ends_run(*failure)) return &*failure;
    return nullptr;
  }
  [[nodiscard]] bool training() const { return split == Split::train; }
  [[nodiscard]] bool in_vain() const { return dropped && dropped->load(std::memory_order_relaxed); }

  // Gives back all that it holds: the arrays first, then their bytes.
  void drop() {
    for (auto& stream : streams_of) stream.clear();
    tally.reset();
    const std::lock_guard lock(lease_mutex);
    lease = Lease();
  }
  // Ready for another sample.
  void clear() {
    drop();
    sequence = phase = number = epoch = key = 0;
    batch = index = 0;
    ends_batch = ends_phase = ends_run = mark = false;
    chunk.reset();
    dropped.reset();
    split = Split::train;
    plan.reset();
    fingerprints.clear();
    std::fill(states.begin(), states.end(), StageState::waiting);
    for (auto& failure : failures) failure.reset();
    refused.reset();
    for (auto& state : saved) state.reset();
    for (auto& arrival : arrivals) arrival.store(0, std::memory_order_relaxed);
  }
};

}  // namespace sluice
