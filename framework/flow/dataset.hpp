// Dataset: the source's listing, the header of every video in it, and the samples that follow from both.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <sluice/info.hpp>
#include <sluice/source.hpp>

#include "framework/config/pipeline.hpp"
#include "framework/plugin/recipe.hpp"

namespace sluice {

// A sample that could not be used, and why. `sample` is its index in its split, or -1 where it never became one.
struct Failed {
  std::string where;  // file, list line, or stage and sample
  std::string why;
  std::int64_t sample = -1;
};

// The stages of a pipeline with their instances, in the order of the file.
struct Stages {
  struct Item {
    StageConfig config;
    Recipe recipe;
  };
  std::vector<Item> items;
  static Stages load(Registry& registry, const Pipeline& pipeline);
};

// Read-only after open(); safe to read from any thread.
class Dataset {
 public:
  struct Options {
    std::filesystem::path cache_dir;
    std::int64_t workers = 1;
    std::uint64_t seed = 0;
    std::int64_t eval_clips = 1;
    std::function<void(const std::string& what, double fraction)> progress;
  };
  // Asks the source for its listing and reads the header of every video through the decoder that will decode it (cached on disk,
  // in parallel). Entries that cannot be used are kept in failed().
  Dataset(Recipe source, const Stages& stages, Options options);
  ~Dataset();
  Dataset(Dataset&&) noexcept;

  [[nodiscard]] const std::vector<std::string>& classes() const;
  // Number of samples of a split; in val each video counts eval_clips (or the sampler's own number of views) times, views of a video adjacent.
  [[nodiscard]] std::int64_t samples(Split split) const;
  [[nodiscard]] std::int64_t videos(Split split) const;
  [[nodiscard]] std::int64_t views(Split split) const;
  [[nodiscard]] const std::vector<Failed>& failed() const;
  // Text streams, label, origin and label of one sample, for messages and predict: (stream, value).
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> texts(Split split, std::int64_t sample) const;
  [[nodiscard]] std::int64_t label(Split split, std::int64_t sample) const;  // -1: none

  struct Impl;
  [[nodiscard]] const Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

// What a sample of this pipeline is, folded over all stages and all samples of the split: the streams that reach the trainer, largest shapes.
struct SampleBounds {
  std::vector<std::pair<std::string, Info>> streams;  // at the end of the chain
  std::uint64_t largest = 0;   // bytes of the largest sample that fits the cap, as the pool rounds them
  std::uint64_t typical = 0;   // median
  std::uint64_t place = 0;     // largest place of a sample in the batch
  std::int64_t too_large = 0;  // samples above the cap that the last argument of sample_bounds() gave
};
SampleBounds sample_bounds(const Dataset& dataset, const Stages& stages, Split split, std::uint64_t cap);

// Smallest samples' share that cannot deadlock: (batch size - 1) x place + largest (DESIGN section 2).
constexpr std::uint64_t smallest_cap(std::int64_t batch_size, std::uint64_t place, std::uint64_t largest) {
  return static_cast<std::uint64_t>(batch_size > 0 ? batch_size - 1 : 0) * place + largest;
}

}  // namespace sluice
