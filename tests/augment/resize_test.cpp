// augment.resize and random_resized_crop against cv::resize on one frame, torchvision's sizes, and a reference drawing.
#include "support.hpp"

#include <opencv2/imgproc.hpp>

#include <cstring>
#include <map>
#include <random>

using namespace sluice;
using namespace sluice::testing;

namespace {

// Frame t of a clip as cv::resize alone makes it.
std::vector<std::uint8_t> resized_frame(const std::vector<std::uint8_t>& clip, std::int64_t t, int height, int width, cv::Rect region, cv::Size to, int flag) {
  cv::Mat frame(height, width, CV_8UC3);
  std::memcpy(frame.data, clip.data() + t * height * width * 3, static_cast<std::size_t>(height * width * 3));
  cv::Mat out;
  cv::resize(frame(region).clone(), out, to, 0, 0, flag);
  return {out.data, out.data + out.total() * 3};
}
std::vector<std::uint8_t> frame_of(FakeSample& sample, std::int64_t t) {
  const auto bytes = sample.bytes("clip");
  const auto size = static_cast<std::ptrdiff_t>(sample.array("clip").bytes() / static_cast<std::uint64_t>(sample.shape("clip")[0]));
  return {bytes.begin() + t * size, bytes.begin() + (t + 1) * size};
}

}  // namespace

// Catches: rows taken for columns, a stride that is wrong in the second frame, another interpolation than the one named.
TEST_CASE("each frame is what OpenCV makes of it") {
  const std::map<std::string, int> flags = {{"area", cv::INTER_AREA}, {"linear", cv::INTER_LINEAR}, {"cubic", cv::INTER_CUBIC}, {"nearest", cv::INTER_NEAREST}};
  for (const auto& [from_height, from_width, height, width] : std::vector<std::array<int, 4>>{{37, 53, 16, 24}, {16, 24, 37, 53}, {40, 20, 20, 40}, {1, 1, 5, 7}, {9, 8, 1, 1}})
    for (const std::string name : {"auto", "area", "linear", "cubic", "nearest"}) {
      CAPTURE(name);
      CAPTURE(from_height);
      FakeSample sample;
      sample.put_noise("clip", 3, from_height, from_width);
      const auto before = sample.bytes("clip");
      built("augment.resize", {{"size", std::vector<std::int64_t>{height, width}}, {"interpolation", name}}).run(sample);
      REQUIRE(sample.shape("clip") == Shape{3, height, width, 3});
      const int flag = name == "auto" ? (height <= from_height && width <= from_width ? cv::INTER_AREA : cv::INTER_LINEAR) : flags.at(name);
      for (int t = 0; t < 3; ++t) CHECK(frame_of(sample, t) == resized_frame(before, t, from_height, from_width, {0, 0, from_width, from_height}, {width, height}, flag));
      CHECK(sample.array("clip").rate() == 25);
    }
}

// torchvision's _compute_resized_output_size, as Python evaluates it for these.
TEST_CASE("sizes that keep the shape are torchvision's") {
  struct Case {
    std::int64_t height, width;
    std::vector<Setting> settings;
    std::int64_t to_height, to_width;
  };
  const std::vector<Case> cases = {{240, 320, {{"short_side", 128}}, 128, 170}, {320, 240, {{"short_side", 128}}, 170, 128}, {256, 340, {{"short_side", 256}}, 256, 340},
                                   {720, 1280, {{"short_side", 128}}, 128, 227}, {101, 101, {{"short_side", 64}}, 64, 64}, {240, 320, {{"long_side", 128}}, 96, 128},
                                   {320, 240, {{"long_side", 128}}, 128, 96}, {10, 1000, {{"short_side", 20}, {"long_side", 500}}, 5, 500}, {1000, 10, {{"long_side", 50}}, 50, 1},
                                   {240, 320, {{"short_side", 120}, {"long_side", 500}}, 120, 160}};
  for (const auto& one : cases) {
    auto stage = built("augment.resize", one.settings);
    const auto info = stage.out(Info::video(16, one.height, one.width));
    CHECK(info.shape == Shape{16, one.to_height, one.to_width, 3});
    CHECK(info.varying == 0);
    FakeSample sample;
    sample.put_noise("clip", 1, one.height, one.width);
    stage.run(sample);
    CHECK(sample.shape("clip") == Shape{1, one.to_height, one.to_width, 3});
  }
}

TEST_CASE("frames of unknown shape have a bound only with a longest side") {
  auto in = Info::video(16, 1080, 1920);
  in.varying = 0b110;
  CHECK(thrown([&] { static_cast<void>(built("augment.resize", {{"short_side", 128}}).out(in)); }, Code::configuration) ==
        "short_side alone has no bound here: an earlier stage gives frames of any shape");
  const auto bound = built("augment.resize", {{"short_side", 128}, {"long_side", 256}}).out(in);
  CHECK(bound.shape == Shape{16, 256, 256, 3});
  CHECK(bound.varying == 0b110);
  const auto exact = built("augment.resize", {{"size", std::vector<std::int64_t>{112, 112}}}).out(in);
  CHECK(exact.shape == Shape{16, 112, 112, 3});
  CHECK(exact.varying == 0);
}

TEST_CASE("settings that contradict each other are refused") {
  const auto refused = [](const std::vector<Setting>& settings) { return thrown([&] { static_cast<void>(built("augment.resize", settings)); }, Code::configuration); };
  CHECK(refused({}) == "no size is given");
  CHECK(refused({{"size", std::vector<std::int64_t>{9}}, {"short_side", 9}}) == "size is given beside short_side or long_side");
  CHECK(refused({{"short_side", 9}, {"long_side", 8}}) == "short_side = 9 is more than long_side = 8");
  CHECK(refused({{"short_side", 0}}) == "short_side = 0.000000 is out of range");
  const auto crop = [](const std::vector<Setting>& settings) { return thrown([&] { static_cast<void>(built("augment.random_resized_crop", settings)); }, Code::configuration); };
  CHECK(crop({{"size", std::vector<std::int64_t>{9}}, {"scale", std::vector<double>{0.5, 1.5}}}) == "scale must be [low, high] with 0 < low <= high <= 1");
  CHECK(crop({{"size", std::vector<std::int64_t>{9}}, {"ratio", std::vector<double>{2, 1}}}) == "ratio must be [low, high] with 0 < low <= high");
  CHECK(crop({{"size", std::vector<std::int64_t>{9}}, {"scale", std::vector<double>{std::nan(""), 1}}}) == "scale must be [low, high] with 0 < low <= high <= 1");
}

namespace {

struct Drawn {
  std::vector<double> share, ratio, top, left;
  void add(double height, double width, double y, double x, double frame_height, double frame_width) {
    share.push_back(height * width / (frame_height * frame_width));
    ratio.push_back(std::log(width / height));
    top.push_back(frame_height > height ? y / (frame_height - height) : 0.5);
    left.push_back(frame_width > width ? x / (frame_width - width) : 0.5);
  }
};

// torchvision's RandomResizedCrop.get_params, line by line.
void draw_reference(std::mt19937_64& random, int height, int width, double scale_low, double scale_high, double ratio_low, double ratio_high, Drawn& drawn) {
  const auto uniform = [&](double low, double high) { return std::uniform_real_distribution<double>(low, high)(random); };
  const auto below = [&](int n) { return std::uniform_int_distribution<int>(0, n - 1)(random); };
  for (int i = 0; i < 10; ++i) {
    const double target = height * width * uniform(scale_low, scale_high);
    const double aspect = std::exp(uniform(std::log(ratio_low), std::log(ratio_high)));
    const int w = static_cast<int>(std::nearbyint(std::sqrt(target * aspect))), h = static_cast<int>(std::nearbyint(std::sqrt(target / aspect)));
    if (0 < w && w <= width && 0 < h && h <= height) {
      const int y = below(height - h + 1);
      drawn.add(h, w, y, below(width - w + 1), height, width);
      return;
    }
  }
  int w = width, h = height;
  const double ratio = static_cast<double>(width) / height;
  if (ratio < ratio_low) h = static_cast<int>(std::nearbyint(w / ratio_low));
  else if (ratio > ratio_high) w = static_cast<int>(std::nearbyint(h * ratio_high));
  drawn.add(h, w, (height - h) / 2, (width - w) / 2, height, width);
}

}  // namespace

// The region is read back from the picture: scaled up by "nearest", the corners name the first and the last row and column.
// Catches: height and width exchanged, a ratio that is uniform where its logarithm should be, a fallback off the middle.
TEST_CASE("random resized crops are distributed as torchvision's") {
  struct Case {
    int height, width;
    double scale_low, scale_high, ratio_low, ratio_high;
  };
  for (const auto& one : std::vector<Case>{{120, 200, 0.08, 1, 3.0 / 4, 4.0 / 3}, {200, 90, 0.3, 0.9, 0.5, 2}, {40, 240, 0.8, 1, 3.0 / 4, 4.0 / 3}, {240, 30, 0.9, 1, 0.5, 1}}) {
    CAPTURE(one.height);
    auto stage = built("augment.random_resized_crop", {{"size", std::vector<std::int64_t>{250}}, {"interpolation", "nearest"}, {"scale", std::vector<double>{one.scale_low, one.scale_high}},
                                                       {"ratio", std::vector<double>{one.ratio_low, one.ratio_high}}});
    Drawn stage_drew, reference;
    std::mt19937_64 random(7);
    for (std::uint64_t number = 0; number < 1500; ++number) {
      FakeSample sample;
      sample.put_clip("clip", 1, one.height, one.width, [](auto, auto y, auto x, auto c) { return c == 0 ? y : c == 1 ? x : 0; });
      stage.run(sample, {.key = key_of(number)});
      const auto top = sample.pixel("clip", 0, 0, 0, 0), left = sample.pixel("clip", 0, 0, 0, 1);
      const auto bottom = sample.pixel("clip", 0, 249, 249, 0), right = sample.pixel("clip", 0, 249, 249, 1);
      stage_drew.add(bottom - top + 1, right - left + 1, top, left, one.height, one.width);
    }
    for (int i = 0; i < 20000; ++i) draw_reference(random, one.height, one.width, one.scale_low, one.scale_high, one.ratio_low, one.ratio_high, reference);
    CHECK(distance(stage_drew.share, reference.share) < 1);
    CHECK(distance(stage_drew.ratio, reference.ratio) < 1);
    CHECK(distance(stage_drew.top, reference.top) < 1);
    CHECK(distance(stage_drew.left, reference.left) < 1);
  }
}

TEST_CASE("the region is scaled as if nothing lay around it, in every frame alike") {
  auto stage = built("augment.random_resized_crop", {{"size", std::vector<std::int64_t>{20, 30}}, {"interpolation", "linear"}});
  for (std::uint64_t number = 0; number < 40; ++number) {
    FakeSample sample;
    sample.put_noise("clip", 2, 24, 28, number);
    const auto before = sample.bytes("clip");
    stage.run(sample, {.key = key_of(number)});
    int found = 0;  // the one region that explains both frames
    for (int height = 1; height <= 24 && !found; ++height)
      for (int width = std::max(1, height * 2 / 3); width <= std::min(28, height * 3 / 2 + 1) && !found; ++width)
        for (int top = 0; top + height <= 24 && !found; ++top)
          for (int left = 0; left + width <= 28 && !found; ++left) {
            const auto corner = [&](int y, int x) { return before[static_cast<std::size_t>((y * 28 + x) * 3)]; };
            // Corners of a linear enlargement are copies; where it shrinks, compare in full.
            if (height <= 20 && width <= 30 && corner(top, left) != sample.pixel("clip", 0, 0, 0, 0)) continue;
            const cv::Rect region(left, top, width, height);
            found = resized_frame(before, 0, 24, 28, region, {30, 20}, cv::INTER_LINEAR) == frame_of(sample, 0) &&
                    resized_frame(before, 1, 24, 28, region, {30, 20}, cv::INTER_LINEAR) == frame_of(sample, 1);
          }
    CHECK(found == 1);
  }
}
