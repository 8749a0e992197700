// Where samples become batches and batches change hands: the records of the samples in the graph, the batch that comes
// together, the finished ones that wait for the trainer. All the waiting of admission and trainer, but for bytes, is here.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <vector>

#include "framework/flow/feed.hpp"
#include "framework/flow/record.hpp"

namespace sluice {

class Exchange {
 public:
  struct Shape {
    std::size_t records = 1;      // samples in the graph at most
    std::int64_t batches = 1;     // begun and not yet taken, at most
    std::size_t streams = 0, stages = 0;
  };
  // `end` is called when a sample ends the run by breaking a contract: nothing more is to be admitted then.
  Exchange(const Dataset::Impl& dataset, const StreamTable& streams, Shape shape, std::function<void()> end);

  // Admission: a free record for a sample (or a mark) of the n-th batch of the run, when the trainer is near enough to it.
  // Null when asked to stop.
  [[nodiscard]] SampleRecord* take(std::uint64_t batch, bool mark, const std::stop_token& token);
  void give_back(SampleRecord& record);  // of a sample that was not admitted after all

  // The graph, in the order of the sequence, one at a time.
  void arrived(SampleRecord& record) noexcept;

  // The trainer.
  [[nodiscard]] std::optional<Batch> next();
  void stop();  // what is finished is dropped, next() returns nothing

  struct Counters {
    std::uint64_t admitted = 0, finished = 0, failed = 0;
    std::int64_t in_flight = 0, gathered = 0, ready = 0, batch_limit = 0;
    bool trainer_waits = false, ended = false;
  };
  [[nodiscard]] Counters counters() const;
  [[nodiscard]] bool admission_waits_for_trainer() const;
  // All records are back, but for one that broke a contract: samples in = samples out.
  void check_all_back() const;

 private:
  void add(SampleRecord& record);
  [[nodiscard]] FinishedSample finish(SampleRecord& record) const;
  void fail(Error error);

  const Dataset::Impl& dataset_;
  const StreamTable& streams_;
  const Shape shape_;
  const std::function<void()> end_;
  std::vector<std::unique_ptr<SampleRecord>> records_;

  mutable std::mutex mutex_;
  std::condition_variable_any admission_;
  std::condition_variable trainer_;
  std::vector<SampleRecord*> free_;
  std::size_t kept_ = 0;  // records that broke a contract: their bytes stay leased, for the plugin may still hold them
  Batch batch_;           // comes together; touched by arrived() alone
  std::deque<Batch> ready_;
  std::optional<Error> error_;
  std::uint64_t taken_ = 0;
  Counters counters_;
  bool stopped_ = false;
  bool blocked_by_trainer_ = false;
};

}  // namespace sluice
