// What a sample will be and weigh, before it exists: the stages' declarations folded over its metadata.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sluice/info.hpp>

#include "framework/flow/dataset_impl.hpp"
#include "framework/flow/wiring.hpp"

namespace sluice {

// The streams of a pipeline by number; in the order of their names, which is the order in a finished sample.
class StreamTable {
 public:
  explicit StreamTable(const Dataset::Impl& dataset);
  [[nodiscard]] int number(std::string_view name) const;  // -1: no such stream
  [[nodiscard]] const std::string& name(int number) const { return names_[static_cast<std::size_t>(number)]; }
  [[nodiscard]] std::size_t size() const { return names_.size(); }
  [[nodiscard]] std::vector<int> numbers(const std::vector<std::string>& names) const;
  // A stream with a dot in its name accompanies another and does not reach the trainer.
  [[nodiscard]] bool reaches_trainer(int number) const { return name(number).find('.') == std::string::npos; }

 private:
  std::vector<std::string> names_;
};

// What a stage is held to for one sample.
struct StagePlan {
  bool active = false;                             // `only` lets it run on this sample
  std::vector<std::pair<int, Info>> outputs{};            // arrays, by stream
  std::vector<std::pair<int, std::uint64_t>> texts{};  // texts, and the most bytes of each as the ledger counts them
  std::uint64_t allowance = 0;  // bytes that it may allocate: outputs and scratch, as the pool rounds them
  std::uint64_t scratch = 0;    // of these, what it may hold outside of the pool
  std::uint64_t transient = 0;  // input, output and scratch
  std::uint64_t released = 0;   // of the lease, when it is done
};

struct SamplePlan {
  std::vector<StagePlan> stages;
  std::uint64_t bound = 0;   // all that will exist at once for it, however its branches interleave
  std::uint64_t place = 0;   // what is left of it in the batch
  std::vector<std::pair<int, Info>> final{};  // the arrays that reach the trainer
  std::string unusable{};    // why a stage cannot take such a sample; empty: it can
};

// Metadata of a sample: with equal metadata two samples have the same plan.
struct SampleShape {
  Split split = Split::train;
  struct Video {
    std::int64_t count = 0;  // frames chosen
    std::int64_t height = 0;
    std::int64_t width = 0;
    double rate = 0;
  };
  std::vector<Video> videos;               // as the columns of the split
  std::vector<std::uint64_t> text_bytes;   // as the text columns; 0 where the row lacks it
};

// For one thread.
class Planner {
 public:
  Planner(const Dataset::Impl& dataset, const Stages& stages);

  // Throws Code::plugin or Code::configuration when a stage cannot declare what it does.
  [[nodiscard]] std::shared_ptr<const SamplePlan> plan(const SampleShape& shape);

  [[nodiscard]] const StreamTable& streams() const { return streams_; }
  // The shape of a row, but for the number of frames chosen.
  [[nodiscard]] SampleShape shape_of_row(Split split, std::size_t row) const;

  // What a sample costs beside its streams: its record, and the names and handles that reach the trainer.
  static constexpr std::uint64_t record_bytes = 4096;
  // A text's bytes as the ledger counts them.
  static std::uint64_t text_bytes(std::uint64_t length);

 private:
  struct Fold;
  [[nodiscard]] SamplePlan make(const SampleShape& shape) const;

  const Dataset::Impl& dataset_;
  const Stages& stages_;
  StreamTable streams_;
  std::map<std::vector<std::uint64_t>, std::shared_ptr<const SamplePlan>> known_;
};

}  // namespace sluice
