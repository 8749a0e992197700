// The samplers against numbers that mmaction2's and pytorchvideo's own formulas give (numpy, torch), and against frames
// counted by hand.
#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <set>

#include "../support/plugin_host.hpp"

using namespace sluice;
using namespace sluice::testing;
using Numbers = std::vector<std::int64_t>;

namespace {
Numbers from(std::int64_t start, std::int64_t frames, std::int64_t stride, std::int64_t length, bool loop = true) {
  Numbers out;
  for (std::int64_t i = 0, at = start; i < frames; ++i, at += stride) out.push_back(at < length ? at : loop ? at % length : length - 1);
  return out;
}
}  // namespace

// Catches: (length - clip) taken as clip x stride, halves rounded away from zero, the last clip one short of the end.
TEST_CASE("starts in evaluation are mmaction2's SampleFrames in test mode") {
  struct Row {
    std::int64_t frames, stride, views, length;
    Numbers starts;
  };
  for (const auto& row : std::vector<Row>{{16, 1, 1, 30, {7}},
                                          {16, 4, 10, 300, {0, 27, 53, 80, 106, 133, 159, 186, 212, 239}},
                                          {8, 8, 10, 250, {0, 21, 43, 64, 86, 107, 129, 150, 172, 193}},
                                          {32, 2, 3, 64, {0, 0, 1}},
                                          {16, 4, 5, 40, {0, 0, 0, 0, 0}},
                                          {8, 1, 10, 11, {0, 0, 1, 1, 1, 2, 2, 2, 3, 3}},
                                          {4, 3, 3, 20, {0, 5, 10}},
                                          {8, 2, 10, 16, {0, 0, 0, 0, 0, 1, 1, 1, 1, 1}}})
    for (const auto& [name, settings] : std::vector<std::pair<std::string, std::vector<Setting>>>{
             {"frames.dense", {{"frames", row.frames}, {"stride", row.stride}}}, {"frames.clips", {{"frames", row.frames}, {"stride", row.stride}, {"clips", row.views}}}}) {
      const auto sampler = built(name, settings);
      CAPTURE(name);
      CAPTURE(row.length);
      for (std::int64_t view = 0; view < row.views; ++view)
        CHECK(sampler.choose({.frames = row.length, .view = view, .views = row.views, .training = false}) == from(row.starts[static_cast<std::size_t>(view)], row.frames, row.stride, row.length));
    }
}

TEST_CASE("frames.clips takes its own number of views, in evaluation only") {
  CHECK(built("frames.clips", {{"clips", 7}}).views(false) == 7);
  CHECK(built("frames.clips", {{"clips", 7}}).views(true) == 1);
  CHECK(built("frames.dense").views(false) == 0);  // what eval.clips says
}

// Catches: a start that can never be drawn (the last one), one that is drawn twice as often, one past the end.
TEST_CASE("training starts are those of SampleFrames, all equally often") {
  constexpr std::int64_t length = 20, frames = 4, stride = 3, starts = length - frames * stride + 1;
  constexpr int draws = 9000;
  const auto sampler = built("frames.dense", {{"frames", frames}, {"stride", stride}});
  std::map<std::int64_t, int> count;
  for (int i = 0; i < draws; ++i) {
    const auto chosen = sampler.choose({.frames = length}, key_of(static_cast<std::uint64_t>(i)));
    ++count[chosen.front()];
    CHECK(chosen == from(chosen.front(), frames, stride, length));
  }
  CHECK(count.size() == starts);
  CHECK(count.rbegin()->first == starts - 1);
  double chi = 0;
  for (const auto& [start, n] : count) chi += std::pow(n - draws / static_cast<double>(starts), 2) / (draws / static_cast<double>(starts));
  CHECK(chi < 26.1);  // 99.9 % point for 8 degrees of freedom
}

TEST_CASE("short videos begin again or stay on their last frame") {
  CHECK(built("frames.dense", {{"frames", 8}}).choose({.frames = 3}) == Numbers{0, 1, 2, 0, 1, 2, 0, 1});
  CHECK(built("frames.dense", {{"frames", 8}, {"short", "hold"}}).choose({.frames = 3}) == Numbers{0, 1, 2, 2, 2, 2, 2, 2});
  CHECK(built("frames.dense", {{"frames", 4}, {"stride", 2}}).choose({.frames = 5}) == Numbers{0, 2, 4, 1});
  CHECK(built("frames.uniform", {{"frames", 5}, {"short", "loop"}}).choose({.frames = 2}) == Numbers{0, 1, 0, 1, 0});
  CHECK(built("frames.uniform", {{"frames", 5}, {"short", "hold"}}).choose({.frames = 2}) == Numbers{0, 1, 1, 1, 1});
  CHECK(built("frames.dense", {{"frames", 3}}).choose({.frames = 1}) == Numbers{0, 0, 0});
}

// Catches: floor where the user asked for round: same key in two projects, different frames.
TEST_CASE("frames.uniform is pytorchvideo's linspace(0, t - 1, n).long(), or its rounded twin") {
  const auto chosen = [](std::int64_t length, std::int64_t n, const char* rounding) {
    return built("frames.uniform", {{"frames", n}, {"rounding", rounding}}).choose({.frames = length, .training = false});
  };
  CHECK(chosen(300, 8, "floor") == Numbers{0, 42, 85, 128, 170, 213, 256, 299});
  CHECK(chosen(300, 8, "round") == Numbers{0, 43, 85, 128, 171, 214, 256, 299});
  CHECK(chosen(30, 16, "floor") == Numbers{0, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29});
  CHECK(chosen(10, 4, "floor") == Numbers{0, 3, 6, 9});
  CHECK(chosen(5, 8, "floor") == Numbers{0, 0, 1, 1, 2, 2, 3, 4});
  CHECK(chosen(5, 8, "round") == Numbers{0, 1, 1, 2, 2, 3, 3, 4});
  CHECK(chosen(7, 3, "floor") == Numbers{0, 3, 6});
  CHECK(chosen(100, 1, "floor") == Numbers{0});
}

// Catches: the draw of one piece reaching into the next, a piece whose last frame never comes, one draw used for all.
TEST_CASE("frames.uniform in training draws each frame from its own piece") {
  const auto sampler = built("frames.uniform", {{"frames", 4}});
  std::vector<std::set<std::int64_t>> seen(4);
  std::set<std::int64_t> distances;
  for (std::uint64_t i = 0; i < 400; ++i) {
    const auto chosen = sampler.choose({.frames = 23}, key_of(i));
    for (std::size_t k = 0; k < 4; ++k) seen[k].insert(chosen[k]);
    distances.insert(chosen[1] - chosen[0]);
  }
  for (std::int64_t k = 0; k < 4; ++k) CHECK(seen[static_cast<std::size_t>(k)] == std::set<std::int64_t>{5 * k, 5 * k + 1, 5 * k + 2, 5 * k + 3, 5 * k + 4});
  CHECK(distances.size() == 9);
  CHECK(built("frames.uniform", {{"frames", 4}, {"random", false}}).choose({.frames = 10}) == Numbers{0, 3, 6, 9});
  CHECK(sampler.choose({.frames = 3}, key_of(1)) == Numbers{0, 1, 2, 2});  // round(i * 3 / 4), halves to even
}

TEST_CASE("several views of frames.uniform look at different frames, spread alike") {
  const auto sampler = built("frames.uniform", {{"frames", 4}});
  std::set<std::int64_t> seen;
  for (std::int64_t view = 0; view < 3; ++view)
    for (const auto frame : sampler.choose({.frames = 12, .view = view, .views = 3, .training = false})) seen.insert(frame);
  CHECK(seen.size() == 12);
}

TEST_CASE("frames.all gives all, and at most max by its policy") {
  const auto chosen = [](std::vector<Setting> settings, VideoOf video) { return built("frames.all", settings).choose(video, key_of(5)); };
  CHECK(chosen({}, {.frames = 4}) == Numbers{0, 1, 2, 3});
  CHECK(chosen({{"stride", 3}}, {.frames = 8}) == Numbers{0, 3, 6});
  CHECK(chosen({{"max", 10}}, {.frames = 4}) == Numbers{0, 1, 2, 3});
  CHECK(chosen({{"max", 3}, {"too_long", "first"}}, {.frames = 9}) == Numbers{0, 1, 2});
  CHECK(chosen({{"max", 3}, {"too_long", "uniform"}}, {.frames = 9}) == Numbers{0, 4, 8});
  CHECK(chosen({{"max", 3}, {"too_long", "window"}}, {.frames = 9, .training = false}) == Numbers{3, 4, 5});
  CHECK(chosen({{"max", 2}, {"stride", 2}, {"too_long", "window"}}, {.frames = 9, .training = false}) == Numbers{2, 4});
  std::set<std::int64_t> starts;
  for (std::uint64_t i = 0; i < 200; ++i) starts.insert(built("frames.all", {{"max", 7}, {"too_long", "window"}}).choose({.frames = 9}, key_of(i)).front());
  CHECK(starts == std::set<std::int64_t>{0, 1, 2});
  // A video too long is a bad sample that is counted, not the end of the run.
  try {
    static_cast<void>(built("frames.all", {{"max", 3}, {"too_long", "skip"}}).count({.frames = 9}));
    FAIL("a video of 9 frames passed max = 3");
  } catch (const Error& error) {
    CHECK(error.code() == Code::data);
    CHECK(error.message().find("9 frames") != std::string::npos);
    CHECK(error.hint().find("too_long") != std::string::npos);
  }
}

// Catches: a rate taken as a stride (wrong for 25 to 10), times ignored where the rate varies, 3 / 10 s at 30 frames/s
// being frame 8 in doubles.
TEST_CASE("a target rate follows the times of the frames") {
  const auto at = [](double rate, VideoOf video) { return built("frames.all", {{"rate", rate}}).choose(video); };
  CHECK(at(10, {.frames = 30, .rate = 30}) == Numbers{0, 3, 6, 9, 12, 15, 18, 21, 24, 27});
  CHECK(at(10, {.frames = 25, .rate = 25}) == Numbers{0, 2, 5, 7, 10, 12, 15, 17, 20, 22});
  CHECK(at(20, {.frames = 3, .rate = 10}) == Numbers{0, 0, 1, 1, 2, 2});
  CHECK(at(25, {.frames = 5, .rate = 25}) == Numbers{0, 1, 2, 3, 4});
  CHECK(at(1, {.frames = 7, .rate = 30}) == Numbers{0});
  // Shown at 0, 0.1, 0.2, then a second of nothing, then two quick ones.
  CHECK(at(5, {.frames = 6, .rate = 4, .times = {0, 0.1, 0.2, 1.2, 1.25, 1.3}}) == Numbers{0, 2, 2, 2, 2, 2, 3, 5});
  const auto long_video = at(10, {.frames = 3000, .rate = 30});
  for (std::size_t k = 0; k < long_video.size(); ++k) CHECK(long_video[k] == static_cast<std::int64_t>(3 * k));
  const auto ntsc = at(30000.0 / 1001, {.frames = 3000, .rate = 30000.0 / 1001});
  CHECK(ntsc.size() == 3000);
  for (std::size_t k = 0; k < ntsc.size(); ++k) CHECK(ntsc[k] == static_cast<std::int64_t>(k));
  // Short is measured at the rate wanted: 8 frames at 10 a second of a video of half a second.
  CHECK(built("frames.dense", {{"frames", 8}, {"rate", 10.0}, {"short", "hold"}}).choose({.frames = 15, .rate = 30}) == Numbers{0, 3, 6, 9, 12, 12, 12, 12});
}

TEST_CASE("a rate asked of a video without one is a bad sample") {
  CHECK_THROWS_WITH_AS(static_cast<void>(built("frames.dense", {{"rate", 10.0}}).choose({.frames = 9, .rate = 0})), doctest::Contains("no frame rate"), Error);
  CHECK(built("frames.dense", {{"frames", 2}}).choose({.frames = 2, .rate = 0}) == Numbers{0, 1});
}
