// augment.random_crop and center_crop against naive loops: where the region lies, and what is made up beyond the edges.
#include "support.hpp"

#include <map>
#include <set>

using namespace sluice;
using namespace sluice::testing;

namespace {

// Rows and columns in different channels, so that a byte says where it came from.
std::uint8_t origin(std::int64_t t, std::int64_t y, std::int64_t x, std::int64_t c) { return static_cast<std::uint8_t>(c == 0 ? y + 1 : c == 1 ? x + 1 : t + 1); }

// numpy.pad, walked one step at a time.
std::int64_t walk(std::int64_t i, std::int64_t n, const std::string& fill) {
  if (fill == "zero") return i < 0 || i >= n ? -1 : i;
  if (fill == "edge" || n == 1) return i < 0 ? 0 : i >= n ? n - 1 : i;
  while (i < 0 || i >= n) i = i < 0 ? -i : 2 * (n - 1) - i;
  return i;
}
// What a crop at (top, left) must hold.
auto crop_of(std::int64_t height, std::int64_t width, std::int64_t top, std::int64_t left, const std::string& fill) {
  return [=](auto t, auto y, auto x, auto c) -> std::uint8_t {
    const auto from_y = walk(top + y, height, fill), from_x = walk(left + x, width, fill);
    return from_y < 0 || from_x < 0 ? 0 : origin(t, from_y, from_x, c);
  };
}

}  // namespace

// Catches: a frame cut elsewhere than the first, a region that reads over the edge, and places that are never chosen.
TEST_CASE("random crops: the same region in all frames, every place as often as the others") {
  auto stage = built("augment.random_crop", {{"size", std::vector<std::int64_t>{3, 4}}});
  std::vector<int> places(4 * 5);
  for (std::uint64_t number = 0; number < 4000; ++number) {
    FakeSample sample;
    sample.put_clip("clip", 2, 6, 8, origin);
    stage.run(sample, {.key = key_of(number)});
    REQUIRE(sample.shape("clip") == Shape{2, 3, 4, 3});
    const auto top = sample.pixel("clip", 0, 0, 0, 0) - 1, left = sample.pixel("clip", 0, 0, 0, 1) - 1;
    REQUIRE(differing(sample, "clip", crop_of(6, 8, top, left, "zero")) == 0);
    ++places.at(static_cast<std::size_t>(top * 5 + left));
  }
  CHECK(unevenness(places) < 1);
}

TEST_CASE("padding on every side, filled in three ways") {
  for (const std::string fill : {"zero", "edge", "reflect"}) {
    CAPTURE(fill);
    auto stage = built("augment.random_crop", {{"size", std::vector<std::int64_t>{6, 8}}, {"padding", 2}, {"fill", fill}});
    std::map<std::pair<int, int>, int> seen;
    for (std::uint64_t number = 0; number < 2000; ++number) {
      FakeSample sample;
      sample.put_clip("clip", 2, 6, 8, origin);
      stage.run(sample, {.key = key_of(number)});
      int found = 0;
      for (int top = -2; top <= 2; ++top)
        for (int left = -2; left <= 2; ++left)
          if (differing(sample, "clip", crop_of(6, 8, top, left, fill)) == 0) ++found, ++seen[{top, left}];
      REQUIRE(found == 1);
    }
    std::vector<int> counts;
    for (const auto& [place, n] : seen) counts.push_back(n);
    CHECK(counts.size() == 25);
    CHECK(unevenness(counts) < 1);
  }
}

TEST_CASE("frames smaller than the region: an error with both sizes, or padding round the whole frame") {
  const std::vector<std::int64_t> size = {7, 9};
  for (const auto* name : {"augment.random_crop", "augment.center_crop"}) {
    CAPTURE(name);
    FakeSample sample;
    sample.put_clip("clip", 1, 5, 6, origin);
    auto strict = built(name, {{"size", size}});
    CHECK(thrown([&] { strict.run(sample); }, Code::data) == "a crop of 7x9 does not fit into frames of 5x6");
    CHECK(thrown([&] { static_cast<void>(strict.out(Info::video(16, 5, 100))); }, Code::data) == "a crop of 7x9 does not fit into frames of 5x100");
    for (const std::string fill : {"zero", "edge", "reflect"}) {
      CAPTURE(fill);
      auto lenient = built(name, {{"size", size}, {"too_small", "pad"}, {"fill", fill}});
      std::set<std::pair<int, int>> seen;
      for (std::uint64_t number = 0; number < 200; ++number) {
        FakeSample small;
        small.put_clip("clip", 2, 5, 6, origin);
        lenient.run(small, {.key = key_of(number)});
        for (int top = -2; top <= 0; ++top)
          for (int left = -3; left <= 0; ++left)
            if (differing(small, "clip", crop_of(5, 6, top, left, fill)) == 0) seen.insert({top, left});
      }
      if (std::string(name) == "augment.random_crop") CHECK(seen.size() == 12);
      else CHECK(seen == std::set<std::pair<int, int>>{{-1, -1}});
    }
  }
}

// torchvision's CenterCrop: crop_top = int(round((height - crop_height) / 2)), and Python rounds halves to the even number.
TEST_CASE("the centre, half pixels as Python rounds them") {
  for (const auto& [have, want, start] : std::vector<std::array<int, 3>>{{8, 4, 2}, {9, 4, 2}, {7, 4, 2}, {5, 4, 0}, {11, 4, 4}, {4, 4, 0}, {171, 112, 30}, {128, 112, 8}, {6, 1, 2}, {1, 1, 0}}) {
    CAPTURE(have);
    CAPTURE(want);
    CHECK(std::lrint((have - want) / 2.0) == start);
    auto stage = built("augment.center_crop", {{"size", std::vector<std::int64_t>{want}}});
    FakeSample sample;
    sample.put_clip("clip", 2, have, have, origin);
    stage.run(sample);
    CHECK(differing(sample, "clip", crop_of(have, have, start, start, "zero")) == 0);
  }
}

TEST_CASE("a crop of the whole frame copies nothing") {
  FakeSample sample;
  sample.put_noise("clip", 2, 5, 6);
  const auto* before = sample.array("clip").data();
  built("augment.center_crop", {{"size", std::vector<std::int64_t>{5, 6}}}).run(sample);
  built("augment.random_crop", {{"size", std::vector<std::int64_t>{5, 6}}}).run(sample);
  CHECK(sample.array("clip").data() == before);
}

TEST_CASE("streams of other sizes are cut at the same relative place") {
  auto stage = built("augment.random_crop", {{"size", std::vector<std::int64_t>{8}}});
  for (std::uint64_t number = 0; number < 100; ++number) {
    FakeSample sample;
    sample.put_clip("rgb", 1, 24, 24, origin);
    sample.put_clip("depth", 1, 40, 40, origin);
    stage.run(sample, {.on = {"rgb", "depth"}, .key = key_of(number)});
    const double rgb = (sample.pixel("rgb", 0, 0, 0, 0) - 0.5) / 17, depth = (sample.pixel("depth", 0, 0, 0, 0) - 0.5) / 33;
    CHECK(std::abs(rgb - depth) < 0.05);
  }
}

TEST_CASE("sizes that make no sense are refused") {
  const auto refused = [](std::vector<std::int64_t> size) { return thrown([&] { static_cast<void>(built("augment.center_crop", {{"size", std::move(size)}})); }, Code::configuration); };
  CHECK(refused({}) == "size has 0 numbers");
  CHECK(refused({1, 2, 3}) == "size has 3 numbers");
  CHECK(refused({0}) == "size holds 0");
  CHECK(refused({-4, 4}) == "size holds -4");
  CHECK(refused({4, std::int64_t{1} << 40}) == "size holds 1099511627776");
  const auto crop = built("augment.center_crop", {{"size", std::vector<std::int64_t>{4}}});
  Info text;
  text.text = true;
  CHECK(thrown([&] { static_cast<void>(crop.out(text)); }, Code::configuration) == "the stream is a text, not a clip");
}
