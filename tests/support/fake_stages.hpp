// Plugins that are part of the test, and a bench that wires them up as a pipeline file would.
//
//   Bench bench(100);                                   // a source of 100 texts with labels
//   bench.stage<Grow>({"clip"}).bytes = 1000;           // returns the instance, to set its fields
//   Run run = bench.run({.workers = 3, .batch_size = 8}, {Phase{}});
//   run.digest, run.finished, run.failed
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <sluice/decoder.hpp>
#include <sluice/frames.hpp>
#include <sluice/rng.hpp>
#include <sluice/source.hpp>
#include <sluice/stage.hpp>

#include "framework/flow/dataset.hpp"
#include "framework/flow/feed.hpp"
#include "framework/memory/ledger.hpp"
#include "framework/memory/pool.hpp"
#include "scratch_folder.hpp"

namespace sluice::testing {

template <class T> inline constexpr abi::Manifest stage_manifest =
    detail::make_manifest<T>(T::plugin, abi::Kind::stage, detail::StageCalls<T>::flags, "");
template <class T> inline constexpr abi::Descriptor stage_descriptor = detail::StageCalls<T>::descriptor(&stage_manifest<T>);
template <class T> inline constexpr abi::Manifest source_manifest = detail::make_manifest<T>(T::plugin, abi::Kind::source, 0u, "");
template <class T> inline constexpr abi::Descriptor source_descriptor = detail::SourceCalls<T>::descriptor(&source_manifest<T>);
template <class T> inline constexpr abi::Manifest decoder_manifest = detail::make_manifest<T>(T::plugin, abi::Kind::decoder, abi::manifest_parallel, "");
template <class T> inline constexpr abi::Descriptor decoder_descriptor = detail::DecoderCalls<T>::descriptor(&decoder_manifest<T>);
template <class T> inline constexpr abi::Manifest frames_manifest = detail::make_manifest<T>(T::plugin, abi::Kind::frames, abi::manifest_parallel, "");
template <class T> inline constexpr abi::Descriptor frames_descriptor = detail::FramesCalls<T>::descriptor(&frames_manifest<T>);

// Lists whatever the test says.
struct Listed {
  static constexpr std::string_view plugin = "source.listed";
  std::function<void(Listing&)> how;
  void list(Listing& listing) const { how(listing); }
};

// A stage whose streams and behaviour are chosen at run time. Every stream it writes becomes `bytes` bytes made of what it
// read, of its name and of random numbers, so that any mix-up shows in the digest.
struct Fake {
  static constexpr std::string_view plugin = "fake.stage";

  std::vector<std::string> reads, writes;
  std::int64_t bytes = 100;
  std::int64_t varying = 0;  // the last so many bytes may be missing
  std::uint64_t scratch = 0;
  double drop = 0;   // chance to throw Error(Code::data)
  double fail = 0;   // chance to throw something that is no Error
  double sleep = 0;  // chance to sleep for `pause`
  std::chrono::microseconds pause{50};
  std::uint64_t salt = 0;
  std::function<void(Sample&, Rng&)> before;  // called first

  void operator()(Sample& sample, Rng& rng) const {
    if (before) before(sample, rng);
    if (rng.uniform() < sleep) std::this_thread::sleep_for(pause);
    const double luck = rng.uniform();
    if (luck < drop) throw Error(Code::data, "dropped on purpose");
    if (luck < drop + fail) throw std::runtime_error("thrown on purpose");
    std::uint64_t digest = mix_bits(salt ^ rng.bits());
    for (const auto& name : reads) digest = mix_bits(digest ^ look(sample, name));
    for (const auto& name : writes) {
      const auto length = varying > 0 ? bytes - rng.index(varying + 1) : bytes;
      Array array = sample.memory().array(DType::u8, {length}, "N");
      auto values = array.values<std::uint8_t>();
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::uint8_t>(mix_bits(digest + i));
      sample.put(name, std::move(array));
    }
  }
  void out(Infos& infos) const {
    bool first = true;
    for (const auto& name : writes) {
      Info info;
      info.shape = {bytes};
      info.axes = "N";
      info.varying = varying > 0 ? 1 : 0;
      info.scratch = first ? scratch : 0;
      first = false;
      infos.put(name, info);
    }
  }
  static std::uint64_t look(Sample& sample, const std::string& name) {
    if (name.starts_with("text")) {
      std::uint64_t digest = 1;
      for (const char c : sample.text(name)) digest = mix_bits(digest ^ static_cast<unsigned char>(c));
      return digest;
    }
    const Array array = sample.view(name);
    std::uint64_t digest = 2;
    for (std::uint64_t i = 0; i < array.bytes(); ++i) digest = mix_bits(digest ^ array.data()[i]);
    return digest;
  }
};
// The same, but with a call operator that is not const, and with one that is ordered.
struct FakeScratch : Fake {
  static constexpr std::string_view plugin = "fake.scratch";
  std::atomic<int> inside{0};
  void operator()(Sample& sample, Rng& rng) {
    if (inside.fetch_add(1) != 0) throw Error(Code::plugin, "two calls in one instance");
    static_cast<const Fake&>(*this)(sample, rng);
    inside.fetch_sub(1);
  }
};
struct FakeOrdered : Fake {
  static constexpr std::string_view plugin = "fake.ordered";
  static constexpr bool ordered = true;
  std::uint64_t seen = 0;
  std::vector<std::uint64_t> numbers;  // of the samples, as they came
  void operator()(Sample& sample, Rng& rng) {
    numbers.push_back(sample.number());
    seen = mix_bits(seen ^ sample.number());
    static_cast<const Fake&>(*this)(sample, rng);
  }
  [[nodiscard]] std::string save() const { return std::string(reinterpret_cast<const char*>(&seen), sizeof seen); }
  void load(std::span<const std::byte> state) { std::memcpy(&seen, state.data(), sizeof seen); }
};

struct Digest {
  std::uint64_t value = 0;
  void add(std::uint64_t x) { value = mix_bits(value ^ x); }
  void add(std::string_view text) {
    for (const char c : text) add(static_cast<unsigned char>(c));
    add(text.size());
  }
  void add(const Batch& batch) {
    add(batch.phase), add(static_cast<std::uint64_t>(batch.index)), add(batch.last ? 1 : 0);
    for (const auto& sample : batch.samples) {
      add(static_cast<std::uint64_t>(sample.index)), add(sample.number), add(sample.key);
      for (const auto& [name, array] : sample.arrays) {
        add(name);
        add(array.shape().text());
        add(std::string_view(reinterpret_cast<const char*>(array.data()), array.bytes()));
      }
      for (const auto& [name, text] : sample.texts) add(name), add(text);
    }
    for (const auto& failed : batch.failed) add(failed.where), add(failed.why), add(static_cast<std::uint64_t>(failed.sample));
    for (const auto& [stage, state] : batch.states) add(stage), add(state);
  }
};

struct Run {
  std::uint64_t digest = 0;
  std::vector<std::uint64_t> batches;  // digest of each
  std::int64_t finished = 0, failed = 0, lasts = 0;
  std::vector<std::vector<std::int64_t>> indices;  // of the samples, per batch
  std::string error;
  Code code = Code::data;
  std::vector<std::vector<std::pair<std::string, std::string>>> states;
  std::vector<Failed> failures;
  std::uint64_t peak = 0, refused = 0;  // bytes; blocks for which there was no memory
};

class Bench {
 public:
  // `samples` texts in train and as many in val, each with a label. More streams: text0, text1...
  explicit Bench(std::int64_t samples, std::int64_t val = 0, int texts = 1) {
    list_ = [=](Listing& listing) {
      for (const auto split : {Split::train, Split::val})
        for (std::int64_t i = 0; i < (split == Split::train ? samples : val); ++i) {
          Entry entry;
          entry.split = split;
          entry.label = i % 7;
          for (int t = 0; t < texts; ++t) entry.streams.emplace_back("text" + std::to_string(t), "entry " + std::to_string(i) + " of " + std::to_string(t));
          listing.add(entry);
        }
    };
  }
  explicit Bench(std::function<void(Listing&)> list) : list_(std::move(list)) {}

  // A stage with the streams of its type, on these.
  template <class T> T& stage(std::vector<std::string> on = {"clip"}, std::string only = {}) { return add<T>(stage_descriptor<T>, std::move(on), std::move(only)); }
  template <class T> T& decoder(std::vector<std::string> on = {"clip"}, std::string only = {}) { return add<T>(decoder_descriptor<T>, std::move(on), std::move(only)); }
  template <class T> T& frames(std::vector<std::string> on = {"clip"}, std::string only = {}) { return add<T>(frames_descriptor<T>, std::move(on), std::move(only)); }
  // A stage or decoder of a plugin file, with its default settings. `descriptor` outlives the bench.
  void plugin(const abi::Descriptor& descriptor, std::vector<std::string> on = {"clip"}) { add_item(descriptor, std::move(on), {}); }
  // A Fake (or a kind of it) with streams chosen now.
  template <class T = Fake> T& fake(std::vector<std::string> reads, std::vector<std::string> writes, std::string only = {}, int instances = 1) {
    const auto& descriptor = described(stage_descriptor<T>, reads, writes);
    auto& made = add<T>(descriptor, {}, std::move(only));
    made.reads = reads;
    made.writes = writes;
    made.salt = stages_.items.size();
    for (int i = 1; i < instances; ++i) {
      stages_.items.back().extra.emplace_back(descriptor);
      auto& extra = *static_cast<T*>(stages_.items.back().extra.back().instance());
      extra.reads = reads, extra.writes = writes, extra.salt = made.salt;
    }
    return made;
  }
  StageConfig& config() { return stages_.items.back().config; }  // of the last stage

  [[nodiscard]] Stages& stages() { return stages_; }
  Dataset& dataset() {
    if (!dataset_) {
      Recipe source(source_descriptor<Listed>);
      static_cast<Listed*>(source.instance())->how = list_;
      dataset_ = std::make_unique<Dataset>(std::move(source), stages_, options);
    }
    return *dataset_;
  }

  // The cap that the check asks for: everything fits.
  std::uint64_t cap(const Feed::Options& how) {
    std::uint64_t most = 1;
    for (const auto split : {Split::train, Split::val})
      if (dataset().samples(split) > 0)
        most = std::max(most, sample_bounds(dataset(), stages_, split, ~std::uint64_t{0} >> 1, split == Split::train ? how.batch_size : how.eval_batch_size).smallest_all);
    return most;
  }

  static std::function<std::optional<Phase>(std::uint64_t)> phases(std::vector<Phase> list) {
    return [list = std::move(list)](std::uint64_t n) { return n < list.size() ? std::optional(list[n]) : std::nullopt; };
  }

  // Consumes all batches; `each` sees every one of them. cap 0: the least that works for all samples.
  Run run(const Feed::Options& how, std::vector<Phase> list, std::uint64_t cap = 0, const std::function<void(Feed&, const Batch&)>& each = nullptr) {
    Run out;
    Ledger ledger(cap ? cap : this->cap(how));
    {
      Feed feed(dataset(), stages_, ledger, how, phases(std::move(list)));
      Digest all;
      try {
        while (auto batch = feed.next()) {
          Digest one;
          one.add(*batch);
          all.add(*batch);
          out.batches.push_back(one.value);
          out.finished += static_cast<std::int64_t>(batch->samples.size());
          out.failed += static_cast<std::int64_t>(batch->failed.size());
          out.lasts += batch->last;
          out.indices.emplace_back();
          for (const auto& sample : batch->samples) out.indices.back().push_back(sample.index);
          out.states.push_back(batch->states);
          for (const auto& failed : batch->failed) out.failures.push_back(failed);
          if (each) each(feed, *batch);
        }
      } catch (const Error& error) {
        out.error = error.what();
        out.code = error.code();
      }
      out.digest = all.value;
      out.refused = feed.status().refused;
    }
    out.peak = ledger.peak();
    left_over = ledger.used();
    return out;
  }

  Dataset::Options options{};
  std::uint64_t left_over = 0;  // bytes that a run left in its ledger

 private:
  template <class T> T& add(const abi::Descriptor& descriptor, std::vector<std::string> on, std::string only) {
    return *static_cast<T*>(add_item(descriptor, std::move(on), std::move(only)));
  }
  void* add_item(const abi::Descriptor& descriptor, std::vector<std::string> on, std::string only) {
    StageConfig config;
    config.plugin.plugin = descriptor.manifest->name;
    config.plugin.place = {"p.toml", static_cast<int>(10 * (stages_.items.size() + 1)), 1};
    config.on = std::move(on);
    config.only = std::move(only);
    config.name = config.plugin.plugin;
    int occurrence = 1;
    for (const auto& item : stages_.items) occurrence += item.config.plugin.plugin == config.plugin.plugin;
    if (occurrence > 1) config.name += "#" + std::to_string(occurrence);
    stages_.items.push_back({config, Recipe(descriptor), {}});
    dataset_.reset();
    return stages_.items.back().recipe.instance();
  }
  const abi::Descriptor& described(const abi::Descriptor& base, const std::vector<std::string>& reads, const std::vector<std::string>& writes) {
    const auto joined = [](const std::vector<std::string>& names) {
      std::string text;
      for (const auto& name : names) text += (text.empty() ? "" : ",") + name;
      return text;
    };
    manifests_.push_back(*base.manifest);
    detail::fill(manifests_.back().reads, joined(reads));
    detail::fill(manifests_.back().writes, joined(writes));
    descriptors_.push_back(base);
    descriptors_.back().manifest = &manifests_.back();
    return descriptors_.back();
  }

  std::function<void(Listing&)> list_;
  std::deque<abi::Manifest> manifests_;
  std::deque<abi::Descriptor> descriptors_;
  Stages stages_;
  std::unique_ptr<Dataset> dataset_;
};

}  // namespace sluice::testing
