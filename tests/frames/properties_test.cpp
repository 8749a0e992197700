// What holds for every sampler, setting and video: as many frames as promised, inside of the video, the same for the same
// key, and a rate equal to the file's own changes nothing.
#include <doctest/doctest.h>

#include <rapidcheck.h>

#include <cstdlib>

#include "../support/plugin_host.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

const bool configured = (setenv("RC_PARAMS", "max_success=1500 seed=20240301", 0), true);

std::string pick(std::initializer_list<const char*> all) { return *rc::gen::elementOf(std::vector<std::string>(all.begin(), all.end())); }

std::pair<std::string, std::vector<Setting>> draw_sampler() {
  const auto name = pick({"frames.dense", "frames.clips", "frames.uniform", "frames.all"});
  std::vector<Setting> settings;
  if (name == "frames.all") {
    if (*rc::gen::arbitrary<bool>()) settings.emplace_back("max", *rc::gen::inRange(1, 40));
    settings.emplace_back("too_long", pick({"uniform", "first", "window"}));
  } else {
    settings.emplace_back("frames", *rc::gen::inRange(1, 40));
    settings.emplace_back("short", name == "frames.uniform" ? pick({"stretch", "loop", "hold"}) : pick({"loop", "hold"}));
  }
  if (name != "frames.uniform") settings.emplace_back("stride", *rc::gen::inRange(1, 12));
  if (*rc::gen::arbitrary<bool>()) settings.emplace_back("rate", *rc::gen::inRange(1, 600) / 10.0);
  return {name, settings};
}

VideoOf draw_video() {
  VideoOf video{.frames = *rc::gen::inRange<std::int64_t>(1, 400), .rate = *rc::gen::inRange(1, 600) / 10.0};
  video.training = *rc::gen::arbitrary<bool>();
  video.views = video.training ? 1 : *rc::gen::inRange<std::int64_t>(1, 12);
  video.view = *rc::gen::inRange<std::int64_t>(0, video.views);
  if (*rc::gen::arbitrary<bool>())
    for (double t = 0; static_cast<std::int64_t>(video.times.size()) < video.frames; t += *rc::gen::inRange(1, 40) / 100.0) video.times.push_back(t);
  return video;
}

}  // namespace

// choose() of the host throws when a number lies outside of the video or another count comes than was promised.
TEST_CASE("numbers lie in the video, as many as promised, and depend on the key alone") {
  CHECK(rc::check("samplers", [] {
    const auto [name, settings] = draw_sampler();
    const auto video = draw_video();
    const auto key = key_of(*rc::gen::arbitrary<std::uint64_t>());
    const auto sampler = built(name, settings);
    const auto chosen = sampler.choose(video, key);
    RC_ASSERT(!chosen.empty());
    RC_ASSERT(chosen == built(name, settings).choose(video, key));
  }));
}

// Catches: a drift of the target rate by rounding over a long video.
TEST_CASE("a target rate equal to the file's own chooses the same frames") {
  CHECK(rc::check("own rate", [] {
    auto [name, settings] = draw_sampler();
    std::erase_if(settings, [](const Setting& setting) { return setting.name == "rate"; });
    auto video = draw_video();
    video.frames = *rc::gen::inRange<std::int64_t>(1, 100000);
    video.rate = *rc::gen::elementOf(std::vector<double>{10, 24000.0 / 1001, 25, 30000.0 / 1001, 30, 59.94, 2997.0 / 125});
    video.times.clear();
    const auto key = key_of(*rc::gen::arbitrary<std::uint64_t>());
    const auto plain = built(name, settings).choose(video, key);
    settings.emplace_back("rate", video.rate);
    RC_ASSERT(built(name, settings).choose(video, key) == plain);
  }));
}

// Times that are those of a constant rate, given one by one, choose what the rate alone chooses.
TEST_CASE("times of a constant rate choose as the rate does") {
  CHECK(rc::check("times", [] {
    const auto [name, settings] = draw_sampler();
    auto video = draw_video();
    video.times.clear();
    const auto key = key_of(*rc::gen::arbitrary<std::uint64_t>());
    const auto plain = built(name, settings).choose(video, key);
    for (std::int64_t k = 0; k < video.frames; ++k) video.times.push_back(static_cast<double>(k) / video.rate);
    RC_ASSERT(built(name, settings).choose(video, key) == plain);
  }));
}
