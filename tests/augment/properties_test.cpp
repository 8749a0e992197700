// Properties of every augmentation, over random settings, sizes and keys: the declared bound is what comes out, nothing is
// leaked or left unwritten, and a sample's bytes depend on its key and on nothing else.
#include "support.hpp"

#include <rapidcheck.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <thread>

using namespace sluice;
using namespace sluice::testing;

namespace {

// rapidcheck reads its parameters at its first use.
const bool configured = (setenv("RC_PARAMS", "max_success=1000 seed=20240229", 0), true);

struct Config {
  std::string name;
  std::vector<Setting> settings;
};

std::vector<std::int64_t> draw_pair(std::int64_t low, std::int64_t high) { return {*rc::gen::inRange<std::int64_t>(low, high + 1), *rc::gen::inRange<std::int64_t>(low, high + 1)}; }
double draw_real(double low, double high) { return low + (high - low) * *rc::gen::inRange(0, 1001) / 1000.0; }
std::string draw_text(std::initializer_list<const char*> all) { return *rc::gen::elementOf(std::vector<std::string>(all.begin(), all.end())); }

Config draw_config() {
  const auto name = draw_text({"resize", "random_crop", "center_crop", "random_resized_crop", "hflip", "vflip", "reverse", "color_jitter", "random_erasing", "grayscale"});
  Config config{"augment." + name, {}};
  auto& s = config.settings;
  if (name == "resize") {
    const int kind = *rc::gen::inRange(0, 4);
    if (kind == 0) s.emplace_back("size", draw_pair(1, 40));
    if (kind == 1 || kind == 3) s.emplace_back("short_side", *rc::gen::inRange(1, 20));
    if (kind == 2 || kind == 3) s.emplace_back("long_side", *rc::gen::inRange(20, 60));
    s.emplace_back("interpolation", draw_text({"auto", "area", "linear", "cubic", "nearest"}));
  } else if (name == "random_crop" || name == "center_crop") {
    s.emplace_back("size", draw_pair(1, 40));
    s.emplace_back("too_small", draw_text({"error", "pad"}));
    s.emplace_back("fill", draw_text({"zero", "edge", "reflect"}));
    if (name == "random_crop") s.emplace_back("padding", *rc::gen::inRange(0, 6));
  } else if (name == "random_resized_crop") {
    s.emplace_back("size", draw_pair(1, 40));
    const double low = draw_real(0.01, 1), shape = draw_real(0.1, 3);
    s.emplace_back("scale", std::vector<double>{low, draw_real(low, 1)});
    s.emplace_back("ratio", std::vector<double>{shape, shape + draw_real(0, 3)});
  } else if (name == "color_jitter") {
    s.emplace_back("brightness", draw_real(0, 2));
    s.emplace_back("contrast", draw_real(0, 2));
    s.emplace_back("saturation", draw_real(0, 2));
    s.emplace_back("hue", draw_real(0, 0.5));
  } else if (name == "random_erasing") {
    s.emplace_back("fill", draw_text({"value", "noise"}));
    s.emplace_back("p", draw_real(0, 1));
  } else {
    s.emplace_back("p", draw_real(0, 1));
  }
  return config;
}

struct Input {
  std::int64_t frames, height, width;
  std::uint64_t key;
};
Input draw_input() {
  return {*rc::gen::inRange<std::int64_t>(1, 4), *rc::gen::inRange<std::int64_t>(1, 33), *rc::gen::inRange<std::int64_t>(1, 33), *rc::gen::inRange<std::uint64_t>(0, 1u << 30)};
}

// Runs it on noise; nothing when the stage refuses the sample, as a crop does that is larger than the frames.
std::optional<std::vector<std::uint8_t>> bytes_after(Recipe& stage, const Input& input, std::uint8_t fill) {
  FakeSample sample;
  sample.ledger().fill = fill;
  sample.put_noise("clip", input.frames, input.height, input.width, input.key);
  sample.put_label(1);
  try {
    stage.run(sample, {.key = key_of(input.key)});
  } catch (const Error& error) {
    if (error.code() != Code::data) throw;
    return std::nullopt;
  }
  auto bytes = sample.bytes("clip");
  const auto shape = sample.shape("clip");
  for (int axis = 0; axis < 4; ++axis) bytes.push_back(static_cast<std::uint8_t>(shape[axis]));
  return bytes;
}

}  // namespace

// The host of the tests throws when a stage takes a byte more than out() declares, leaves another shape than it declares,
// leaks, or writes past a block. Two fills of fresh memory show bytes that were never written.
TEST_CASE("out() is the exact bound, and every byte of it is written") {
  int ran = 0;
  CHECK(rc::check("bounds", [&] {
    const auto config = draw_config();
    const auto input = draw_input();
    auto stage = built(config.name, config.settings);
    stage.prepare({.classes = {"a", "b"}});
    const auto zeros = bytes_after(stage, input, 0x00), ones = bytes_after(stage, input, 0xFF);
    RC_ASSERT(zeros == ones);
    ran += zeros.has_value();
  }));
  CHECK(ran > 500);
}

TEST_CASE("the same key gives the same bytes, on any number of threads, from any instance") {
  for (const auto& [name, settings] : std::vector<std::pair<std::string, std::vector<Setting>>>{
           {"augment.resize", {{"short_side", 20}}}, {"augment.random_crop", {{"size", std::vector<std::int64_t>{16}}}}, {"augment.center_crop", {{"size", std::vector<std::int64_t>{16}}}},
           {"augment.random_resized_crop", {{"size", std::vector<std::int64_t>{24}}}}, {"augment.hflip", {}}, {"augment.vflip", {}}, {"augment.reverse", {}},
           {"augment.color_jitter", {{"brightness", 0.4}, {"contrast", 0.4}, {"saturation", 0.4}, {"hue", 0.1}}}, {"augment.random_erasing", {{"fill", "noise"}}}, {"augment.grayscale", {}}}) {
    CAPTURE(name);
    auto stage = built(name, settings), other = built(name, settings);
    stage.prepare({.classes = {"a", "b"}});
    other.prepare({.classes = {"a", "b"}});
    CHECK((stage.manifest().flags & abi::manifest_parallel) != 0);
    constexpr std::uint64_t samples = 42;
    const auto input = [](std::uint64_t number) { return Input{3, 30 + static_cast<std::int64_t>(number % 5), 40, number}; };
    std::vector<std::vector<std::uint8_t>> alone;
    for (std::uint64_t n = 0; n < samples; ++n) alone.push_back(bytes_after(stage, input(n), 0).value());
    for (const unsigned workers : {1u, 2u, 3u, 7u}) {
      std::vector<std::vector<std::uint8_t>> together(samples);
      std::atomic<std::uint64_t> next = 0;
      {
        std::vector<std::jthread> threads;
        for (unsigned w = 0; w < workers; ++w)
          threads.emplace_back([&, w] {
            for (std::uint64_t n; (n = next++) < samples;) together[samples - 1 - n] = bytes_after(w % 2 ? other : stage, input(samples - 1 - n), 0).value();
          });
      }
      CHECK(together == alone);
    }
  }
}
