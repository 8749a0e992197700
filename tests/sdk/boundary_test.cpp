// Plugins through the C boundary: every kind, by both compilers, and every breach of the contract noticed.
#include <doctest/doctest.h>

#include <thread>

#include "../support/plugin_host.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {
std::string fixture(const std::string& name) { return SLUICE_BINARY_DIR "/tests/fixtures/" + name + ".so"; }
const std::vector<std::string> both_compilers = {"shapes", "shapes_clang"};

// The message of what `function` throws; empty when it does not.
template <class Function> std::string thrown(Function function, Code code) {
  try {
    function();
  } catch (const Error& error) {
    CHECK(error.code() == code);
    return error.message();
  }
  return {};
}
}  // namespace

// Catches: a plugin whose entries or manifest get lost in one of the compilers, or whose layout differs between them.
TEST_CASE("a file holds all its names, with either compiler") {
  for (const auto& file : both_compilers) {
    CAPTURE(file);
    const Plugin plugin(fixture(file));
    std::vector<std::string> names;
    for (const auto* descriptor : plugin.all()) names.emplace_back(descriptor->manifest->name);
    std::sort(names.begin(), names.end());
    CHECK(names == std::vector<std::string>{"decode.numbers", "fixture.array", "fixture.clip", "fixture.counter", "fixture.sample", "fixture.scratch",
                                            "frames.every_other", "source.two"});
  }
}

TEST_CASE("a clip stage gets its fields, its classes and its bytes") {
  for (const auto& file : both_compilers) {
    CAPTURE(file);
    const Plugin plugin(fixture(file));
    Recipe stage = plugin.recipe("fixture.clip", {{"p", 1}, {"add", 3}, {"mode", "minus"}, {"twice", true}, {"list", std::vector<double>{1, 2, 3}},
                                                  {"maybe", 0.5}, {"map", Map{{"a", "b"}, {"c", "d e"}}}});
    stage.prepare({.classes = {"x", "y"}});
    CHECK(stage.describe() == "2 classes, 3 reals, a=b, c=d e, maybe 0.500000");
    FakeSample sample;
    sample.put_noise("clip", 3, 4, 5);
    const auto before = sample.bytes("clip");
    stage.run(sample);
    auto expected = before;
    for (auto& byte : expected) byte = static_cast<std::uint8_t>(byte - 6);
    CHECK(sample.bytes("clip") == expected);
    CHECK(sample.array("clip").rate() == 25);
    CHECK(sample.array("clip").axes() == "THWC");
  }
}

TEST_CASE("settings are checked: names, types, ranges, choices, and the plugin's own check") {
  const Plugin plugin(fixture("shapes"));
  const auto refused = [&](const Setting& setting) { return thrown([&] { static_cast<void>(plugin.recipe("fixture.clip", {setting})); }, Code::configuration); };
  CHECK(refused({"q", 1}) == "fixture.clip has no field 'q'");
  CHECK(refused({"p", "much"}) == "the field 'p' has another type");
  CHECK(refused({"p", 1.5}) == "p = 1.500000 is out of range");
  CHECK(refused({"p", std::numeric_limits<double>::quiet_NaN()}) == "p = nan is out of range");
  CHECK(refused({"maybe", 1.0}) == "maybe = 1.000000 is out of range");
  CHECK(refused({"add", -1}) == "add = -1.000000 is out of range");
  CHECK(refused({"mode", "sideways"}) == "mode = \"sideways\" is none of plus|minus");
  CHECK(thrown([&] { static_cast<void>(plugin.recipe("fixture.clip", {{"twice", true}, {"add", 0}})); }, Code::configuration) == "twice nothing is nothing");
}

TEST_CASE("array and sample stages, scratch and state") {
  for (const auto& file : both_compilers) {
    CAPTURE(file);
    const Plugin plugin(fixture(file));
    FakeSample sample;
    sample.number = 12;
    sample.put_values<std::int64_t>("gloss", {3}, "T", {5, 6, 7});
    plugin.recipe("fixture.array").run(sample, {.on = {"gloss"}});
    CHECK(sample.values<std::int64_t>("gloss") == std::vector<std::int64_t>{5, 6, 7, 5, 6, 7});

    sample.put_clip("left", 1, 1, 1, [](auto...) { return 4; });
    sample.put_clip("right", 1, 1, 1, [](auto...) { return 5; });
    sample.put_label(-1);
    sample.put_text("caption", "c");
    plugin.recipe("fixture.sample").run(sample, {.on = {"left", "right"}});
    CHECK(sample.label() == 9);
    CHECK(sample.text("caption") == "c+12");

    auto scratch = plugin.recipe("fixture.scratch");
    CHECK((scratch.manifest().flags & abi::manifest_parallel) == 0);
    for (const std::int64_t width : {5, 3, 8}) {
      FakeSample other;
      other.put_clip("clip", 2, 2, width, [](auto, auto y, auto x, auto c) { return y * 100 + x * 3 + c; });
      scratch.run(other);
      CHECK(other.pixel("clip", 1, 0, 0, 0) == (width - 1) * 3 + 2);
      CHECK(other.pixel("clip", 1, 1, 0, 0) == 100);
    }

    auto counter = plugin.recipe("fixture.counter");
    CHECK((counter.manifest().flags & abi::manifest_ordered) != 0);
    FakeSample third;
    third.put_noise("clip", 1, 1, 1);
    counter.run(third);
    counter.run(third);
    std::string saved;
    auto failure = testing::detail::no_failure();
    const auto write = [](void* sink, const void* data, std::uint64_t bytes) {
      static_cast<std::string*>(sink)->append(static_cast<const char*>(data), bytes);
      return 0;
    };
    REQUIRE(counter.descriptor().stage->save(counter.raw(), &saved, write, &failure) == 0);
    CHECK(saved == "2");
    auto resumed = plugin.recipe("fixture.counter");
    REQUIRE(resumed.descriptor().stage->load(resumed.raw(), saved.data(), saved.size(), &failure) == 0);
    resumed.run(third);
    CHECK(third.bytes("clip")[0] == 3);
  }
}

// Catches: streams of one sample decided apart from each other, or together although they are `independent`.
TEST_CASE("one decision for all streams, unless independent") {
  auto stage = Plugin(fixture("shapes")).recipe("fixture.clip", {{"p", 0.5}});
  int together = 0, apart = 0;
  for (std::uint64_t number = 0; number < 400; ++number)
    for (const std::uint32_t stream : {0u, 1u}) {
      FakeSample sample;
      for (const auto* name : {"front", "left"}) sample.put_clip(name, 1, 1, 1, [](auto...) { return 10; });
      stage.run(sample, {.on = {"front", "left"}, .key = key_of(number, 5, 0, stream)});
      (stream ? apart : together) += sample.bytes("front") != sample.bytes("left");
    }
  CHECK(together == 0);
  CHECK(apart > 150);
  CHECK(apart < 250);
}

TEST_CASE("decoders, samplers and sources") {
  for (const auto& file : both_compilers) {
    CAPTURE(file);
    const Plugin plugin(fixture(file));
    auto decoder = plugin.recipe("decode.numbers");
    CHECK(decoder.probe("x.mp4").frames == 100);
    CHECK(decoder.times("x.mp4") == std::vector<double>{0.0, 0.04});
    CHECK(thrown([&] { static_cast<void>(decoder.probe("missing")); }, Code::data) == "no such file");
    FakeSample sample;
    decoder.decode(sample, "x.mp4", {7, 3, 3});
    CHECK(sample.shape("clip") == Shape{3, 4, 6, 3});
    CHECK(sample.pixel("clip", 1, 3, 5, 2) == 3);
    CHECK(sample.values<double>("clip.times") == std::vector<double>{0.28, 0.12, 0.12});

    const auto sampler = plugin.recipe("frames.every_other");
    CHECK(sampler.choose({.frames = 5}) == std::vector<std::int64_t>{0, 2, 4});
    CHECK(sampler.views(true) == 1);
    CHECK(sampler.views(false) == 3);
    CHECK(sampler.descriptor().frames->wants_times == 1);

    const auto listed = plugin.recipe("source.two", {{"root", "videos"}}).list({.seed = 9});
    REQUIRE(listed.items.size() == 1);
    CHECK(listed.classes == std::vector<std::string>{"left", "right"});
    CHECK(listed.items[0].streams.at("depth") == "videos/a.png");
    CHECK(listed.items[0].split == abi::Split::val);
    CHECK(listed.items[0].end == 2);
    CHECK(listed.items[0].group == "person");
    CHECK(listed.items[0].origin == "list.csv:2");
    CHECK(listed.rejects.at(0).why == "no such file, seed 9");
  }
}

// Planted defects: each must be named by the host of the tests, or no test of a plugin proves anything.
TEST_CASE("every breach of the contract is noticed") {
  const Plugin plugin(fixture("faults"));
  const auto fault = [&](const std::string& kind, Code code) {
    FakeSample sample;
    sample.put_noise("clip", 2, 3, 4);
    sample.put_label(1);
    auto stage = plugin.recipe("fixture.fault", {{"kind", kind}});
    return thrown([&] { stage.run(sample); }, code);
  };
  CHECK(fault("none", Code::data) == "");
  CHECK(fault("throw_data", Code::data) == "here: bad sample");
  CHECK(fault("throw_std", Code::data) == "plain");
  CHECK(fault("throw_int", Code::data) == "the plugin threw something that is no std::exception");
  CHECK(fault("throw_alloc", Code::memory) == "out of memory inside the plugin");
  CHECK(fault("undeclared_read", Code::plugin) == "it reads the stream 'label', which it did not declare");
  CHECK(fault("undeclared_write", Code::plugin) == "it writes the stream 'label', which it did not declare");
  CHECK(fault("not_put_back", Code::plugin) == "it took the stream 'clip' and put nothing back");
  CHECK(fault("too_much", Code::plugin) == "asked for 108 bytes where 72 are left of what out() declared");
  CHECK(fault("leak", Code::plugin) == "it leaked 1 blocks");
  CHECK(fault("past_the_end", Code::plugin) == "a block of 72 bytes was written past its ends");
  CHECK(fault("other_shape", Code::plugin) == "declared 'clip' as uint8 [2, 3, 4, 3] and left uint8 [2, 3, 3, 3]");
  CHECK(fault("twice", Code::plugin) != "");
}

// Catches: bytes that come from the stage's instance or the thread, not from the sample and its key.
TEST_CASE("a const stage gives the same bytes on several threads") {
  auto stage = Plugin(fixture("shapes")).recipe("fixture.clip", {{"p", 0.5}, {"add", 9}});
  const auto bytes_of_samples = [&](unsigned from, unsigned step) {
    std::map<unsigned, std::vector<std::uint8_t>> out;
    for (unsigned n = from; n < 64; n += step) {
      FakeSample sample;
      sample.put_noise("clip", 2, 8, 8, n);
      stage.run(sample, {.key = key_of(n)});
      out[n] = sample.bytes("clip");
    }
    return out;
  };
  const auto alone = bytes_of_samples(0, 1);
  for (const unsigned workers : {2u, 3u, 7u}) {
    std::vector<std::map<unsigned, std::vector<std::uint8_t>>> parts(workers);
    {
      std::vector<std::jthread> threads;
      for (unsigned w = 0; w < workers; ++w) threads.emplace_back([&, w] { parts[w] = bytes_of_samples(w, workers); });
    }
    std::map<unsigned, std::vector<std::uint8_t>> all;
    for (auto& part : parts) all.merge(part);
    CHECK(all == alone);
  }
}
