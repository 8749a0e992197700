// Clips that go through in chunks: the same frames with the same random decisions as whole ones, in a share of the memory.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/fake_videos.hpp"
#include "tests/support/scratch_folder.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

// Adds one random number to all bytes of a clip: a decision that has to be the same for all of its chunks.
struct Tint {
  static constexpr std::string_view plugin = "fake.tint";
  Clip operator()(Clip clip, Rng& rng) const {
    const auto by = rng.index(256);
    auto* bytes = clip.array().data();
    for (std::uint64_t i = 0; i < clip.array().bytes(); ++i) bytes[i] = static_cast<std::uint8_t>(bytes[i] + by);
    return clip;
  }
};
// Fails where it meets a frame that begins so.
struct Fails {
  static constexpr std::string_view plugin = "fake.fails";
  std::vector<std::array<std::uint8_t, 8>> at;
  Clip operator()(Clip clip, Rng&) const {
    for (std::int64_t t = 0; t < clip.frames(); ++t)
      for (const auto& one : at)
        if (std::memcmp(clip.frame(t).pixels, one.data(), one.size()) == 0) throw Error(Code::data, "frame " + std::to_string(one[0]) + " is damaged");
    return clip;
  }
};
struct EverySecond {
  static constexpr std::string_view plugin = "fake.every_second";
  Info out(const Info& in) const {
    Info info = in;
    info.shape[0] = (in.shape[0] + 1) / 2;
    return info;
  }
  Clip operator()(Clip clip, Rng&) const { return clip; }
};
struct Backwards {
  static constexpr std::string_view plugin = "fake.backwards";
  static constexpr bool whole_clip = true;
  Clip operator()(Clip clip, Rng&) const { return clip; }
};
struct Counts {
  static constexpr std::string_view plugin = "fake.counts";
  static constexpr bool ordered = true;
  Clip operator()(Clip clip, Rng&) { return clip; }
};

struct Movies {
  explicit Movies(std::int64_t samples, std::int64_t val = 0) {
    bench = std::make_unique<Bench>([=, this](Listing& listing) {
      for (const auto split : {Split::train, Split::val})
        for (std::int64_t i = 0; i < (split == Split::train ? samples : val); ++i)
          listing.add({.split = split, .label = i % 3, .streams = {{"clip", path(split, i)}}});
    });
    for (const auto split : {Split::train, Split::val})
      for (std::int64_t i = 0; i < (split == Split::train ? samples : val); ++i) write_video(path(split, i), {.frames = 60 + 7 * (i % 8), .width = 8, .height = 4});
    bench->frames<FakeFrames>().wanted = 90;
    bench->decoder<FakeDecoder>();
    fails = &bench->stage<Fails>();
    bench->stage<Tint>();
  }
  [[nodiscard]] std::string path(Split split, std::int64_t i) const {
    return (folder.path() / ((split == Split::train ? "t" : "v") + std::string(1, static_cast<char>('a' + i)) + ".vid")).string();
  }
  void damage(std::int64_t i, std::int64_t frame) {
    std::array<std::uint8_t, 8> bytes{};
    for (std::size_t k = 0; k < bytes.size(); ++k) bytes[k] = FakeDecoder::pixel(path(Split::train, i), frame, static_cast<std::int64_t>(k));
    fails->at.push_back(bytes);
  }
  ScratchFolder folder;
  std::unique_ptr<Bench> bench;
  Fails* fails = nullptr;
};

using Key = std::pair<std::uint64_t, std::int64_t>;  // phase, sample
struct Seen {
  std::vector<Key> order;
  std::map<Key, std::string> clips;  // bytes, and those of the label
  std::vector<std::string> failures;
  Run run;
};

std::string text_of(const FinishedSample& sample, const std::string& stream) {
  for (const auto& [name, array] : sample.arrays)
    if (name == stream) return {reinterpret_cast<const char*>(array.data()), array.bytes()};
  return {};
}

Seen see(Movies& movies, Feed::Options how, const std::vector<Phase>& phases, std::uint64_t cap = 0) {
  Seen seen;
  const bool chunks = how.chunking.on();
  ChunkPlace last;
  bool in_clip = false, gone = false;
  std::map<Key, std::string> again;  // what the second pass showed
  seen.run = movies.bench->run(how, phases, cap, [&](Feed&, const Batch& batch) {
    CHECK(batch.chunk.has_value() == (chunks && !(batch.samples.empty() && batch.failed.empty() && batch.last && batch.index < 0)));
    for (const auto& failed : batch.failed) seen.failures.push_back(failed.where + ": " + failed.why);
    if (!chunks) {
      for (const auto& sample : batch.samples) {
        seen.order.emplace_back(batch.phase, sample.index);
        seen.clips[seen.order.back()] = text_of(sample, "clip") + text_of(sample, "label");
      }
      return;
    }
    const auto& place = *batch.chunk;
    // In order, each once, and nothing of a clip that failed.
    if (!batch.samples.empty()) {
      CHECK_FALSE(gone);
      CHECK(place.begin == (in_clip && place.pass == last.pass ? last.end : 0));
      CHECK(place.first == std::max<std::int64_t>(0, place.begin - how.chunking.halo));
      CHECK(place.last == std::min(place.clip_frames, place.end + how.chunking.halo));
      const Key key{batch.phase, batch.samples[0].index};
      const std::string bytes = text_of(batch.samples[0], "clip");
      const auto each = static_cast<std::int64_t>(bytes.size()) / (place.last - place.first);
      auto& into = place.pass == ChunkPass::features ? seen.clips[key] : again[key];
      // The halo shows the same frames as the neighbour.
      const auto overlap = (place.begin - place.first) * each;
      CHECK(into.substr(into.size() - static_cast<std::size_t>(overlap)) == bytes.substr(0, static_cast<std::size_t>(overlap)));
      into += bytes.substr(static_cast<std::size_t>(overlap), static_cast<std::size_t>((place.end - place.begin) * each));
      if (place.ends_clip) {
        seen.order.push_back(key);
        if (place.pass == ChunkPass::gradients) CHECK(again[key] == seen.clips[key]);
        again.erase(key);
        seen.clips[key] += text_of(batch.samples[0], "label");
      }
    } else {
      gone = true;
    }
    last = place;
    in_clip = !place.ends_clip;
    if (place.ends_clip) gone = false;
  });
  for (auto it = seen.clips.begin(); it != seen.clips.end();) it = std::find(seen.order.begin(), seen.order.end(), it->first) == seen.order.end() ? seen.clips.erase(it) : std::next(it);
  CHECK(movies.bench->left_over == 0);
  return seen;
}

const std::vector<Phase> phases{{Phase::Kind::train, 0, 0}, {Phase::Kind::eval, 0, 0}, {Phase::Kind::train, 1, 0}};

}  // namespace

// Catches: a chunk with a random key of its own, frames chosen anew for each chunk, a halo of other frames, chunks that overtake each
// other, a lease of the whole clip.
TEST_CASE("chunks carry the frames of the whole clip, with the same decisions, in order, whatever the workers and the memory") {
  Movies movies(11, 5);
  const Feed::Options how{.workers = 2, .batch_size = 4, .eval_batch_size = 2, .seed = 3};
  const Seen whole = see(movies, how, phases);
  CHECK(whole.order.size() == 11 + 5 + 11);
  for (const Chunking chunking : {Chunking{16, 3}, Chunking{7, 9}, Chunking{64, 2}, Chunking{500, 1}}) {
    auto cut = how;
    cut.chunking = chunking;
    std::uint64_t least = 0;
    for (const auto split : {Split::train, Split::val}) least = std::max(least, sample_bounds(movies.bench->dataset(), movies.bench->stages(), split, ~std::uint64_t{0} >> 1, 1, chunking).smallest_all);
    for (const std::int64_t workers : {1, 2, 3, 7})
      for (const std::uint64_t factor : {1, 2, 10}) {
        INFO("chunks of " << chunking.frames << " and " << chunking.halo << ", workers " << workers << ", cap x " << factor);
        cut.workers = workers;
        const Seen seen = see(movies, cut, phases, least * factor);
        CHECK(seen.run.error == "");
        CHECK(seen.order == whole.order);
        CHECK(seen.clips == whole.clips);
        CHECK(seen.run.lasts == 3);
        CHECK(seen.run.peak <= least * factor);
      }
  }
}

// Catches: a lease that follows the clip and not its chunk.
TEST_CASE("the bytes of a sample do not follow the length of its clip") {
  const auto bound = [](std::int64_t frames) {
    ScratchFolder folder;
    Bench bench([&](Listing& listing) { listing.add({.streams = {{"clip", write_video(folder.path() / "a.vid", {.frames = frames, .width = 64, .height = 48})}}}); });
    bench.frames<FakeFrames>().wanted = 100000;
    bench.decoder<FakeDecoder>();
    CHECK(longest_clip(bench.dataset(), bench.stages(), Split::train) == frames);
    return sample_bounds(bench.dataset(), bench.stages(), Split::train, ~std::uint64_t{0} >> 1, 1, {16, 2}).largest;
  };
  CHECK(bound(64) == bound(4096));
  CHECK(bound(64) > bound(16));
}

// Catches: a sequencer that waits for a chunk that never comes, a second report of one clip, a failure that takes a neighbour along,
// a message that depends on which chunk was done first.
TEST_CASE("a chunk that fails drops its clip and nothing else; the first one in time is what is reported") {
  Movies movies(9);
  movies.damage(2, 30);
  movies.damage(2, 55);
  movies.damage(5, 50);
  movies.damage(7, 100);
  Feed::Options how{.workers = 3, .batch_size = 4, .seed = 3};
  const std::vector<Phase> training{{Phase::Kind::train, 0, 0}, {Phase::Kind::train, 1, 0}};
  std::vector<std::string> failures;
  for (const std::int64_t workers : {1, 2, 7})
    for (int repeat = 0; repeat < 4; ++repeat) {
      how.chunking = {8, 2};
      how.workers = workers;
      const Seen seen = see(movies, how, training);
      for (const auto& key : seen.order) CHECK((key.second != 2 && key.second != 5));
      CHECK(seen.run.failed == static_cast<std::int64_t>(seen.failures.size()));
      if (failures.empty()) failures = seen.failures;
      CHECK(seen.failures == failures);
      CHECK(seen.run.lasts == 2);
      how.chunking = {};
      const Seen whole = see(movies, how, training);
      CHECK(seen.order == whole.order);
      CHECK(seen.clips == whole.clips);
    }
  CHECK(failures.size() >= 4);
}

TEST_CASE("a resumed feed goes on with the chunks of its batch") {
  Movies movies(10);
  Feed::Options how{.workers = 3, .batch_size = 4, .seed = 5};
  how.chunking = {16, 2};
  const Seen all = see(movies, how, {{Phase::Kind::train, 0, 0}, {Phase::Kind::train, 1, 0}});
  const Seen rest = see(movies, how, {{Phase::Kind::train, 0, 1}, {Phase::Kind::train, 1, 0}});
  CHECK(rest.order == std::vector<Key>(all.order.begin() + 4, all.order.end()));
  for (const auto& [key, bytes] : rest.clips) CHECK(all.clips.at(key) == bytes);
}

TEST_CASE("stages that need the whole clip are refused with their name") {
  const auto refusal = [](const auto& add) -> std::string {
    Movies movies(3);
    add(*movies.bench);
    try {
      static_cast<void>(sample_bounds(movies.bench->dataset(), movies.bench->stages(), Split::train, ~std::uint64_t{0} >> 1, 1, {16, 2}));
    } catch (const Error& error) {
      CHECK(error.code() == Code::configuration);
      return error.message();
    }
    return {};
  };
  CHECK(refusal([](Bench&) {}) == "");
  CHECK(refusal([](Bench& bench) { bench.stage<Backwards>(); }).find("fake.backwards needs the whole clip") != std::string::npos);
  CHECK(refusal([](Bench& bench) { bench.stage<Counts>(); }).find("fake.counts goes from sample to sample") != std::string::npos);
  CHECK(refusal([](Bench& bench) { bench.stage<EverySecond>(); }).find("fake.every_second makes") != std::string::npos);
  CHECK(refusal([](Bench& bench) { bench.stage<Backwards>({"clip"}, "eval"); }) == "");
}
