// The graph that follows from the streams, and each of its mistakes with the place and the way out.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include <sluice/error.hpp>
#include <sluice/rng.hpp>

#include "framework/flow/wiring.hpp"

using namespace sluice;

namespace {

using Names = std::vector<std::string>;

StageShape stage(std::string name, Names reads, Names writes, std::string only = {}) {
  StageShape shape;
  shape.name = std::move(name);
  shape.place = fmt::format("p.toml:{}:1", shape.name.size());
  shape.reads = std::move(reads);
  shape.writes = std::move(writes);
  shape.only = std::move(only);
  return shape;
}
StageShape made(abi::Kind kind, std::string name, Names on, std::string only = {}) {
  abi::Manifest manifest{};
  manifest.kind = static_cast<std::uint32_t>(kind);
  manifest.reads[0] = manifest.writes[0] = '*';
  StageConfig config;
  config.plugin.plugin = config.name = std::move(name);
  config.plugin.place = {"p.toml", 5, 1};
  config.on = std::move(on);
  config.only = std::move(only);
  return shape_of(config, manifest);
}

std::string error_of(std::vector<StageShape> stages, std::optional<Names> source = Names{"clip", "label"}) {
  try {
    static_cast<void>(wire(std::move(stages), source));
    return "none";
  } catch (const Error& error) {
    CHECK(error.code() == Code::configuration);
    CHECK(error.where().find("p.toml:") == 0);
    return std::string(error.what());
  }
}
bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("a chain on one stream, and the companions of a decoder") {
  const auto wiring = wire({made(abi::Kind::frames, "frames.dense", {"clip"}), made(abi::Kind::decoder, "decode.x", {"clip"}), stage("flip", {"clip"}, {"clip"}),
                            stage("mark", {"clip.times", "label"}, {"label"})},
                           Names{"clip", "label"});
  CHECK(wiring.before[1] == std::vector<int>{0});
  CHECK(wiring.before[2] == std::vector<int>{1});
  CHECK(wiring.before[3] == std::vector<int>{1});  // beside the flip, not behind it
  CHECK(wiring.after[1] == std::vector<int>{2, 3});
  CHECK(wiring.from_source[1] == Names{"clip", "label"});
  CHECK(wiring.stages[1].consumes == Names{"clip.frames"});
  CHECK(wiring.ordered(0, 3));
  CHECK_FALSE(wiring.ordered(2, 3));
}

TEST_CASE("branches, their join, and readers before the next writer") {
  const auto wiring = wire({stage("a", {"left"}, {"left"}), stage("b", {"right"}, {"right"}), stage("join", {"left", "right"}, {"joined"}),
                            stage("look", {"left"}, {"seen"}), stage("change", {"left"}, {"left"})},
                           Names{"left", "right"});
  CHECK(wiring.before[2] == std::vector<int>{0, 1});
  CHECK(wiring.before[3] == std::vector<int>{0});
  CHECK(wiring.before[4] == std::vector<int>{2, 3});  // both readers of `left` are done before it changes; `a` is implied
}

TEST_CASE("the star stands for the streams of `on`") {
  abi::Manifest manifest{};
  manifest.kind = static_cast<std::uint32_t>(abi::Kind::stage);
  const auto fill = [](char* to, std::string_view text) { text.copy(to, text.size()); };
  fill(manifest.reads, "*, *.times ,label,*");
  fill(manifest.writes, "*.mask");
  StageConfig config;
  config.on = {"left", "right"};
  const auto shape = shape_of(config, manifest);
  CHECK(shape.reads == Names{"left", "right", "left.times", "right.times", "label"});
  CHECK(shape.writes == Names{"left.mask", "right.mask"});
}

TEST_CASE("a stream that nobody writes: the place, and the name that was meant") {
  const auto text = error_of({stage("flip", {"cilp"}, {"cilp"})});
  CHECK(has(text, "p.toml:4:1: stage flip reads the stream 'cilp', which nobody writes"));
  CHECK(has(text, "did you mean 'clip'?"));
  CHECK(has(error_of({stage("flip", {"depth"}, {"depth"})}), "streams that exist at this point: clip, label"));
  // A source that does not say what it gives: whatever no stage writes is taken for its, but for companions.
  CHECK(error_of({stage("flip", {"depth"}, {"depth"})}, std::nullopt) == "none");
  CHECK(has(error_of({stage("flip", {"clip.times"}, {"x"})}, std::nullopt), "which nobody writes"));
}

TEST_CASE("a stream that exists in training alone") {
  const auto text = error_of({stage("make", {"clip"}, {"mask"}, "train"), stage("use", {"mask"}, {"x"})});
  CHECK(has(text, "stage use reads the stream 'mask', which nobody writes in evaluation"));
  CHECK(error_of({stage("make", {"clip"}, {"mask"}, "train"), stage("other", {"clip"}, {"mask"}, "eval"), stage("use", {"mask"}, {"x"})}) == "none");
}

TEST_CASE("a writer further down, and a cycle") {
  const auto later = error_of({stage("use", {"mask"}, {"x"}), stage("make", {"clip"}, {"mask"})});
  CHECK(has(later, "stage use reads 'mask', which only stage make writes, further down"));
  CHECK(has(later, "move that one up"));
  const auto cycle = error_of({stage("use", {"mask"}, {"x"}), stage("between", {"x"}, {"y"}), stage("make", {"y"}, {"mask"})});
  CHECK(has(cycle, "a cycle: stage use reads 'mask', which stage make writes, and that one needs what stage use writes"));
}

TEST_CASE("two writers that nothing orders") {
  const auto text = error_of({stage("one", {"clip"}, {"mask"}), stage("another", {"clip"}, {"mask"})});
  CHECK(has(text, "p.toml:7:1: stage one and stage another both write 'mask', and nothing says which comes first"));
  CHECK(has(text, "stage one stands at p.toml:3:1"));
  // Ordered by what the second reads, directly or through a third: fine.
  CHECK(error_of({stage("one", {"clip"}, {"mask"}), stage("another", {"mask"}, {"mask"})}) == "none");
  CHECK(error_of({stage("one", {"clip"}, {"mask"}), stage("third", {"mask"}, {"x"}), stage("another", {"x"}, {"mask"})}) == "none");
  // Never on the same sample: fine.
  CHECK(error_of({stage("one", {"clip"}, {"mask"}, "train"), stage("another", {"clip"}, {"mask"}, "eval")}) == "none");
}

TEST_CASE("decoders without frames, samplers behind a decoder, plugins that are no stage") {
  const auto text = error_of({made(abi::Kind::decoder, "decode.x", {"front"})}, Names{"front"});
  CHECK(has(text, "stage decode.x has no frames to decode: no stage chooses them for 'front'"));
  CHECK(has(text, "on = [\"front\"]"));
  CHECK(has(error_of({made(abi::Kind::frames, "f", {"clip"}), made(abi::Kind::decoder, "d", {"clip"}), made(abi::Kind::frames, "g", {"clip"})}), "put it before every other stage"));
  CHECK_THROWS_WITH_AS(static_cast<void>(made(abi::Kind::backbone, "backbone.r3d", {"clip"})), doctest::Contains("'backbone.r3d' is no stage"), Error);
}

TEST_CASE("different samplers and decoders for training and evaluation") {
  CHECK(error_of({made(abi::Kind::frames, "dense", {"clip"}, "train"), made(abi::Kind::frames, "uniform", {"clip"}, "eval"), made(abi::Kind::decoder, "d", {"clip"}),
                  stage("flip", {"clip"}, {"clip"}, "train")}) == "none");
  CHECK(error_of({made(abi::Kind::frames, "f", {"clip"}), made(abi::Kind::decoder, "d", {"clip"}, "train"), made(abi::Kind::decoder, "e", {"clip"}, "eval"),
                  stage("flip", {"clip"}, {"clip"})}) == "none");
  CHECK(has(error_of({made(abi::Kind::frames, "dense", {"clip"}, "train"), made(abi::Kind::decoder, "d", {"clip"})}), "in evaluation"));
}

TEST_CASE("10,000 random graphs: every conflict of two stages is an edge or a path, and nothing else is") {
  // The oracle: two stages that touch the same stream, one of them writing, must be ordered as they stand in the file;
  // removing any edge must lose such an order.
  Rng rng(abi::RandomKey{1, 0, 0, 0});
  int wired = 0;
  for (int trial = 0; trial < 10000; ++trial) {
    std::vector<StageShape> stages;
    const auto n = 1 + rng.index(8);
    for (std::int64_t i = 0; i < n; ++i) {
      Names reads, writes;
      for (const char* name : {"a", "b", "c", "d"}) {
        const auto what = rng.index(6);
        if (what < 2) reads.emplace_back(name);
        if (what == 1 || what == 2) writes.emplace_back(name);
      }
      stages.push_back(stage(fmt::format("s{}", i), reads, writes));
    }
    std::optional<Wiring> wiring;
    try {
      wiring = wire(stages, Names{"a", "b", "c", "d"});
    } catch (const Error&) {
      continue;  // two unordered writers
    }
    ++wired;
    const auto touches = [](const Names& names, const Names& others) {
      for (const auto& name : names)
        if (std::find(others.begin(), others.end(), name) != others.end()) return true;
      return false;
    };
    std::vector<std::vector<bool>> must(static_cast<std::size_t>(n), std::vector<bool>(static_cast<std::size_t>(n), false));
    for (int b = 0; b < n; ++b)
      for (int a = b - 1; a >= 0; --a) {
        const auto &x = stages[static_cast<std::size_t>(a)], &y = stages[static_cast<std::size_t>(b)];
        bool implied = touches(x.writes, y.reads) || touches(x.writes, y.writes) || touches(x.reads, y.writes);
        for (int m = a + 1; m < b; ++m) implied = implied || (must[static_cast<std::size_t>(m)][static_cast<std::size_t>(a)] && must[static_cast<std::size_t>(b)][static_cast<std::size_t>(m)]);
        must[static_cast<std::size_t>(b)][static_cast<std::size_t>(a)] = implied;
      }
    for (int b = 0; b < n; ++b)
      for (int a = 0; a < b; ++a) REQUIRE(wiring->ordered(a, b) == must[static_cast<std::size_t>(b)][static_cast<std::size_t>(a)]);
    for (int b = 0; b < n; ++b)
      for (const int a : wiring->before[static_cast<std::size_t>(b)])
        for (const int m : wiring->before[static_cast<std::size_t>(b)]) REQUIRE((m == a || !wiring->ordered(a, m)));
  }
  CHECK(wired > 2000);
}
