// Flow control by counting: a sample is admitted only when its batch will be wanted, so no queue behind it can overflow.
#include "framework/flow/exchange.hpp"

#include <algorithm>
#include <new>
#include <utility>

#include "framework/flow/host.hpp"
#include "framework/memory/invariant.hpp"

namespace sluice {

Exchange::Exchange(const Dataset::Impl& dataset, const StreamTable& streams, Shape shape, std::function<void()> end)
    : dataset_(dataset), streams_(streams), shape_(shape), end_(std::move(end)) {
  for (std::size_t i = 0; i < shape.records; ++i) {
    records_.push_back(std::make_unique<SampleRecord>(shape.streams, shape.stages, shape.stages + 1));
    free_.push_back(records_.back().get());
  }
}

SampleRecord* Exchange::take(std::uint64_t batch, bool mark, const std::stop_token& token) {
  std::unique_lock lock(mutex_);
  const auto ahead = [&] { return batch >= taken_ + static_cast<std::uint64_t>(shape_.batches); };
  blocked_by_trainer_ = ahead();
  admission_.wait(lock, token, [&] {
    blocked_by_trainer_ = ahead();
    return !free_.empty() && !blocked_by_trainer_;
  });
  blocked_by_trainer_ = false;
  if (token.stop_requested()) return nullptr;
  auto* record = free_.back();
  free_.pop_back();
  record->mark = mark;
  if (!mark) ++counters_.admitted;
  return record;
}

void Exchange::give_back(SampleRecord& record) {
  record.clear();
  const std::lock_guard lock(mutex_);
  free_.push_back(&record);
  --counters_.admitted;
}

FinishedSample Exchange::finish(SampleRecord& record) const {
  FinishedSample sample;
  sample.index = record.index;
  sample.number = record.number;
  sample.key = record.key;
  std::uint64_t place = Planner::record_bytes;
  for (std::size_t id = 0; id < record.streams_of.size(); ++id) {
    auto& stream = record.streams_of[id];
    if (!streams_.reaches_trainer(static_cast<int>(id))) continue;
    const auto& name = streams_.name(static_cast<int>(id));
    if (stream.state == Stream::State::array) {
      place += FramePool::rounded(stream.array.capacity());
      sample.arrays.emplace_back(name, std::move(stream.array));
    } else if (stream.state == Stream::State::text) {
      place += Planner::text_bytes(stream.text.size());
      sample.texts.emplace_back(name, std::move(stream.text));
    }
  }
  for (auto& stream : record.streams_of) stream.clear();
  sample.lease = std::move(record.lease);
  sample.lease.shrink_to(place);
  sample.lease.count_as(Account::batches, place);
  return sample;
}

void Exchange::add(SampleRecord& record) {
  batch_.phase = record.phase;
  batch_.index = record.batch;
  batch_.chunk = record.chunk;
  const bool in_vain = record.in_vain();
  const Error* failure = in_vain ? nullptr : record.failure();
  if (failure && record.dropped) record.dropped->store(true, std::memory_order_relaxed);
  if (failure) {
    const auto why = failure->hint().empty() ? failure->message() : failure->message() + " (" + failure->hint() + ")";
    batch_.failed.push_back({failure->where(), why, record.index});
  } else if (!record.mark && !in_vain) {
    batch_.samples.push_back(finish(record));
  }
  for (std::size_t i = 0; i < record.saved.size(); ++i)
    if (record.saved[i]) batch_.states.emplace_back(dataset_.wiring.stages[i].name, std::move(*record.saved[i]));
  const bool complete = record.ends_batch;
  batch_.last = record.ends_phase;

  const std::lock_guard lock(mutex_);
  if (failure) ++counters_.failed;
  else if (!record.mark) ++counters_.finished;
  counters_.gathered = static_cast<std::int64_t>(batch_.samples.size());
  if (!complete) return;
  if (!stopped_) ready_.push_back(std::exchange(batch_, Batch()));
  else batch_ = Batch();
  counters_.gathered = 0;
  trainer_.notify_all();
}

void Exchange::fail(Error error) {
  {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = std::move(error);
  }
  trainer_.notify_all();
  end_();
}

void Exchange::arrived(SampleRecord& record) noexcept {
  bool drop = false, keep = false;
  {
    const std::lock_guard lock(mutex_);
    drop = stopped_ || error_.has_value();
  }
  try {
    if (const Error* fatal = record.fatal(); fatal && !drop) {
      keep = true;
      fail(*fatal);
    } else if (!drop && !record.ends_run) {
      add(record);
    }
  } catch (const std::exception& error) {
    fail(Error(Code::plugin, error.what(), "", "putting a batch together"));
  }
  const bool last = record.ends_run;
  if (drop || keep || last) batch_ = Batch();
  if (!keep) record.clear();
  {
    const std::lock_guard lock(mutex_);
    if (last) counters_.ended = true;
    if (keep) ++kept_;
    else free_.push_back(&record);
  }
  admission_.notify_all();
  if (last) trainer_.notify_all();
}

std::optional<Batch> Exchange::next() {
  std::unique_lock lock(mutex_);
  counters_.trainer_waits = true;
  trainer_.wait(lock, [&] { return stopped_ || !ready_.empty() || error_ || counters_.ended; });
  counters_.trainer_waits = false;
  if (stopped_) return std::nullopt;
  if (!ready_.empty()) {
    std::optional<Batch> batch(std::move(ready_.front()));
    ready_.pop_front();
    ++taken_;
    lock.unlock();
    admission_.notify_all();
    return batch;
  }
  if (error_) throw Error(*error_);
  return std::nullopt;
}

void Exchange::stop() {
  std::deque<Batch> dropped;
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    dropped.swap(ready_);
  }
  trainer_.notify_all();
  admission_.notify_all();
}

Exchange::Counters Exchange::counters() const {
  const std::lock_guard lock(mutex_);
  auto counters = counters_;
  counters.in_flight = static_cast<std::int64_t>(records_.size() - free_.size() - kept_);
  counters.ready = static_cast<std::int64_t>(ready_.size());
  counters.batch_limit = shape_.batches;
  return counters;
}

bool Exchange::admission_waits_for_trainer() const {
  const std::lock_guard lock(mutex_);
  return blocked_by_trainer_;
}

void Exchange::check_all_back() const {
  const std::lock_guard lock(mutex_);
  invariant(free_.size() + kept_ == records_.size(), "a sample went into the graph and did not come out");
}

}  // namespace sluice
