// Dataset: the source's listing, the header of every video in it, and the samples that follow from both.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <sluice/info.hpp>
#include <sluice/source.hpp>

#include "framework/config/pipeline.hpp"
#include "framework/flow/chunks.hpp"
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
    std::vector<Recipe> extra{};  // a stage whose call is not const: one instance more for each further worker
  };
  std::vector<Item> items;
  // `training` = false leaves out those that only training runs: what they read need not be there.
  static Stages load(Registry& registry, const Pipeline& pipeline, bool training = true);
};

// Read-only once it is made; safe to read from any thread. The streams that a sample starts with: the texts that the source
// gives, and `label` (int64, one element) when any entry has one (-1 in those that have none).
class Dataset {
 public:
  struct Options {
    std::filesystem::path cache_dir;
    std::int64_t workers = 1;
    std::uint64_t seed = 0;
    std::int64_t eval_clips = 1;
    std::function<void(const std::string& what, double fraction)> progress;
  };
  // Asks the source for its listing, prepares the stages (they learn the classes), and reads the header of every video through
  // the decoder that will decode it (cached on disk, in parallel). Entries that cannot be used are kept in failed().
  // Throws Code::configuration when the stages' streams do not fit those of the source. The stages stay as they are as long as it lives.
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

  // Changes with every path, piece, text and label of the split, and with their order.
  [[nodiscard]] std::uint64_t digest(Split split) const;

  struct Impl;
  [[nodiscard]] const Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

// What a sample of this pipeline is, folded over all stages and all samples of the split: the streams that reach the trainer, largest shapes.
//
// A sample is admitted when (batch_size - 1) x place + its own bytes are within the cap: then the batch that it belongs to can
// always come together (DESIGN section 2). One that is not is a tombstone, "too large". When that befalls the median sample,
// the pipeline cannot run, and the feed refuses it.
struct SampleBounds {
  std::vector<std::pair<std::string, Info>> streams;  // at the end of the chain; an extent that differs between samples is marked as varying
  std::uint64_t largest = 0;   // bytes of the largest sample that is admitted, as the pool rounds them
  std::uint64_t typical = 0;   // of the median
  std::uint64_t place = 0;     // largest place in the batch of a sample that is admitted
  std::uint64_t decoders = 0;  // most of `largest` that the decoders of a sample that is admitted work in
  std::int64_t too_large = 0;  // samples that are not
  std::int64_t unusable = 0;   // samples that a stage declared it cannot take, e.g. a crop larger than the frame
  std::string why_unusable;    // of the first of them
  std::uint64_t smallest = 0;      // the least cap with which the median sample is admitted: a byte less is refused
  std::uint64_t smallest_all = 0;  // the least cap with which every sample is
  struct Step {
    std::uint64_t cap = 0;        // from this cap on
    std::uint64_t largest = 0;    // samples up to these bytes are admitted
    std::int64_t too_large = 0;   // and so many are not
  };
  std::vector<Step> steps;  // ascending
  [[nodiscard]] bool runs() const { return largest >= typical; }
};
// A cap under which every sample fits.
inline constexpr std::uint64_t no_cap = std::numeric_limits<std::uint64_t>::max() / 4;
// With chunks the bytes are those of a sample's largest chunk, and the streams those of a chunk. Throws Code::configuration for a stage
// that needs the whole clip.
SampleBounds sample_bounds(const Dataset& dataset, const Stages& stages, Split split, std::uint64_t cap, std::int64_t batch_size = 1, const Chunking& chunking = {});
// Frames of the longest clip that the samplers of the split choose; 0: it has none.
[[nodiscard]] std::int64_t longest_clip(const Dataset& dataset, const Stages& stages, Split split);

// Smallest samples' share that cannot deadlock: (batch size - 1) x place + largest (DESIGN section 2).
constexpr std::uint64_t smallest_cap(std::int64_t batch_size, std::uint64_t place, std::uint64_t largest) {
  return static_cast<std::uint64_t>(batch_size > 0 ? batch_size - 1 : 0) * place + largest;
}

}  // namespace sluice
