// The host's side of a stage call: what the stage may touch, how much it may allocate, and whether it left what it declared.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "framework/flow/dataset.hpp"
#include "framework/flow/plan.hpp"
#include "framework/flow/record.hpp"

namespace sluice {

// One stage of the graph with all that its calls have in common. Safe to call from several threads, on different samples.
class StageHost {
 public:
  StageHost(const Dataset::Impl& dataset, Stages::Item& item, std::size_t stage, const StreamTable& streams, FramePool& pool, std::uint64_t seed);

  // Runs the stage on the sample and notes in the record what became of it. Nothing is thrown.
  void run(SampleRecord& record) noexcept;

  // State of an ordered stage, where it has some. save() notes it in the record; a failure ends the run.
  [[nodiscard]] bool has_state() const { return item_.recipe.descriptor().stage->save != nullptr; }
  void save(SampleRecord& record) noexcept;
  void load(std::string_view bytes);

  [[nodiscard]] const std::string& name() const { return shape_.name; }
  [[nodiscard]] const StageShape& shape() const { return shape_; }
  // How many calls may be on their way at once; 0: any number.
  [[nodiscard]] std::size_t instances() const { return shape_.parallel() ? 0 : shape_.ordered() ? 1 : 1 + item_.extra.size(); }

 private:
  class Call;
  struct Borrowed;  // an instance, and the scratch beside the pool, for the length of a call
  // `touched`: whether the sample is no longer what it was before the call.
  void run_checked(SampleRecord& record, bool& touched);
  void check_file(const SampleRecord& record) const;
  [[nodiscard]] std::string where(const SampleRecord& record) const;
  [[noreturn]] void broken(const SampleRecord& record, std::string what, std::string hint = {}) const;

  const Dataset::Impl& dataset_;
  Stages::Item& item_;
  const StageShape& shape_;
  std::size_t stage_;
  const StreamTable& streams_;
  FramePool& pool_;
  std::uint64_t key_;
  std::vector<int> reads_, writes_, consumes_;
  std::vector<abi::Text> on_;
  std::mutex mutex_;
  std::vector<void*> idle_;  // instances that no call uses, where the stage is not parallel
};

// "sample 17 of train (list.csv:18)".
[[nodiscard]] std::string sample_name(const Dataset::Impl& dataset, Split split, std::int64_t index);

}  // namespace sluice
