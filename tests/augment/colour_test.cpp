// augment.color_jitter, grayscale and random_erasing against torchvision's formulas, written naively.
#include "support.hpp"

#include <array>
#include <set>

using namespace sluice;
using namespace sluice::testing;

namespace {

using Pixel = std::array<double, 3>;

double grey_of(const Pixel& p) { return std::floor(0.2989 * p[0] + 0.587 * p[1] + 0.114 * p[2] + 1e-9); }
double cut_off(double x) { return std::floor(std::clamp(x, 0.0, 255.0)); }

std::vector<Pixel> pixels_of(FakeSample& sample, std::int64_t frame) {
  const auto shape = sample.shape("clip");
  std::vector<Pixel> out;
  for (std::int64_t y = 0; y < shape[1]; ++y)
    for (std::int64_t x = 0; x < shape[2]; ++x) out.push_back({1.0 * sample.pixel("clip", frame, y, x, 0), 1.0 * sample.pixel("clip", frame, y, x, 1), 1.0 * sample.pixel("clip", frame, y, x, 2)});
  return out;
}
double worst(const std::vector<Pixel>& a, const std::vector<Pixel>& b) {
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    for (std::size_t c = 0; c < 3; ++c) most = std::max(most, std::abs(a[i][c] - b[i][c]));
  return most;
}

std::vector<Pixel> brightened(std::vector<Pixel> all, double factor) {
  for (auto& p : all)
    for (auto& v : p) v = cut_off(factor * v);
  return all;
}
std::vector<Pixel> contrasted(std::vector<Pixel> all, double factor) {
  double mean = 0;
  for (const auto& p : all) mean += grey_of(p) / static_cast<double>(all.size());
  for (auto& p : all)
    for (auto& v : p) v = cut_off(factor * v + (1 - factor) * mean);
  return all;
}
std::vector<Pixel> saturated(std::vector<Pixel> all, double factor) {
  for (auto& p : all) {
    const double grey = grey_of(p);
    for (auto& v : p) v = cut_off(factor * v + (1 - factor) * grey);
  }
  return all;
}
// Python's colorsys.rgb_to_hsv and hsv_to_rgb.
std::vector<Pixel> turned(std::vector<Pixel> all, double turn) {
  for (auto& p : all) {
    const double r = p[0] / 255, g = p[1] / 255, b = p[2] / 255, most = std::max({r, g, b}), least = std::min({r, g, b});
    double h = 0, s = 0;
    if (most != least) {
      s = (most - least) / most;
      const double rc = (most - r) / (most - least), gc = (most - g) / (most - least), bc = (most - b) / (most - least);
      h = r == most ? bc - gc : g == most ? 2 + rc - bc : 4 + gc - rc;
      h = h / 6 - std::floor(h / 6);
    }
    h += turn;
    h -= std::floor(h);
    const int i = static_cast<int>(h * 6);
    const double f = h * 6 - i, x = most * (1 - s), q = most * (1 - s * f), t = most * (1 - s * (1 - f));
    const std::array<Pixel, 6> sixth = {{{most, t, x}, {q, most, x}, {x, most, t}, {x, q, most}, {t, x, most}, {most, x, q}}};
    for (std::size_t c = 0; c < 3; ++c) p[c] = std::floor(sixth[static_cast<std::size_t>(i % 6)][c] * (256 - 1e-3));
  }
  return all;
}

using Change = std::vector<Pixel> (*)(std::vector<Pixel>, double);

// The amount that explains a frame best, searched finely over its range; and by how much it fails to.
std::pair<double, double> explain(const std::vector<Pixel>& before, const std::vector<Pixel>& after, Change change, double low, double high) {
  const auto error = [&](double amount) {
    double sum = 0;
    const auto made = change(before, amount);
    for (std::size_t i = 0; i < made.size(); ++i)
      for (std::size_t c = 0; c < 3; ++c) sum += std::abs(made[i][c] - after[i][c]);
    return sum;
  };
  double best = low, least = 1e300;
  for (double step = (high - low) / 64; step > 1e-7; step /= 8) {
    const double from = least == 1e300 ? low : std::max(low, best - 8 * step), to = least == 1e300 ? high : std::min(high, best + 8 * step);
    for (double amount = from; amount <= to + step / 2; amount += step)
      if (const double e = error(amount); e < least) least = e, best = amount;
  }
  return {best, worst(change(before, best), after)};
}

}  // namespace

// Each of the four alone: some factor of the declared range must explain every byte of every frame, the same factor in all.
// Catches: rounding where torchvision cuts off, a mean of colours where it takes that of luminance, a hue that drifts.
TEST_CASE("brightness, contrast, saturation and hue are torchvision's, by one factor a clip") {
  struct Case {
    std::string field;
    double amount, low, high;
    Change change;
  };
  for (const auto& one : std::vector<Case>{{"brightness", 0.4, 0.6, 1.4, brightened}, {"contrast", 0.5, 0.5, 1.5, contrasted}, {"saturation", 1.5, 0, 2.5, saturated}, {"hue", 0.3, -0.3, 0.3, turned}}) {
    CAPTURE(one.field);
    auto stage = built("augment.color_jitter", {{one.field, one.amount}});
    std::vector<int> tenths(10);
    for (std::uint64_t number = 0; number < 200; ++number) {
      FakeSample sample;
      sample.put_noise("clip", 2, 5, 6, number + 1);
      const std::vector<Pixel> before[] = {pixels_of(sample, 0), pixels_of(sample, 1)};
      stage.run(sample, {.key = key_of(number)});
      const auto [factor, off] = explain(before[0], pixels_of(sample, 0), one.change, one.low, one.high);
      REQUIRE(off <= 1);
      REQUIRE(worst(one.change(before[1], factor), pixels_of(sample, 1)) <= 1);
      ++tenths[static_cast<std::size_t>(std::clamp((factor - one.low) / (one.high - one.low) * 10, 0.0, 9.0))];
    }
    CHECK(unevenness(tenths) < 1);
  }
}

TEST_CASE("the order is drawn too: brightness before contrast as often as after") {
  auto stage = built("augment.color_jitter", {{"brightness", 0.9}, {"contrast", 0.9}});
  int first = 0, second = 0;
  for (std::uint64_t number = 0; number < 120; ++number) {
    FakeSample sample;
    sample.put_clip("clip", 1, 4, 4, [](auto, auto y, auto x, auto c) { return 20 + y * 12 + x * 3 + c; });  // nothing is cut off at 255
    const auto before = pixels_of(sample, 0);
    stage.run(sample, {.key = key_of(number)});
    const auto after = pixels_of(sample, 0);
    // Contrast last leaves the mean of the brightened picture; brightness last scales it: the spread tells the product, the
    // mean then tells nothing more, unless something was cut off. So search both orders for the best pair of factors.
    const auto best = [&](bool brightness_first) {
      double least = 1e300;
      for (double b = 0.1; b <= 1.9; b += 0.02)
        for (double c = 0.1; c <= 1.9; c += 0.02) {
          const auto made = brightness_first ? contrasted(brightened(before, b), c) : brightened(contrasted(before, c), b);
          double sum = 0;
          for (std::size_t i = 0; i < made.size(); ++i) sum += std::abs(made[i][0] - after[i][0]);
          least = std::min(least, sum);
        }
      return least;
    };
    if (number < 12) {  // the searches are slow: a few show that both orders explain, the rest count differences
      const double a = best(true), b = best(false);
      CHECK(std::min(a, b) < 16);
      first += a <= b, second += b <= a;
    }
  }
  CHECK(first + second >= 12);
}

TEST_CASE("amounts of zero and a chance of zero leave every byte") {
  for (const auto& settings : std::vector<std::vector<Setting>>{{}, {{"brightness", 0.5}, {"hue", 0.5}, {"p", 0}}}) {
    FakeSample sample;
    sample.put_noise("clip", 2, 4, 4);
    const auto before = sample.bytes("clip");
    built("augment.color_jitter", settings).run(sample);
    CHECK(sample.bytes("clip") == before);
  }
  CHECK(thrown([] { static_cast<void>(built("augment.color_jitter", {{"hue", 0.6}})); }, Code::configuration) == "hue = 0.600000 is out of range");
}

TEST_CASE("grayscale: torchvision's weights, three equal channels, as often as p says") {
  auto stage = built("augment.grayscale", {{"p", 0.3}});
  int grey = 0;
  for (std::uint64_t number = 0; number < 500; ++number) {
    FakeSample sample;
    sample.put_noise("clip", 2, 3, 4, number + 1);
    const auto before = sample.copy().bytes("clip");
    stage.run(sample, {.key = key_of(number)});
    const auto after = sample.bytes("clip");
    if (after == before) continue;
    ++grey;
    for (std::size_t i = 0; i < after.size(); i += 3) {
      REQUIRE(after[i] == grey_of({1.0 * before[i], 1.0 * before[i + 1], 1.0 * before[i + 2]}));
      REQUIRE((after[i] == after[i + 1] && after[i] == after[i + 2]));
    }
  }
  CHECK(grey > 110);
  CHECK(grey < 190);
}

namespace {
struct Erased {
  std::int64_t top, left, height, width;
};
// The rectangle of bytes that changed; it must be full, and the same in all frames.
std::optional<Erased> rectangle(FakeSample& sample, const std::vector<std::uint8_t>& before) {
  const auto shape = sample.shape("clip");
  const auto after = sample.bytes("clip");
  std::int64_t top = shape[1], left = shape[2], bottom = -1, right = -1, changed = 0;
  for (std::int64_t t = 0; t < shape[0]; ++t)
    for (std::int64_t y = 0; y < shape[1]; ++y)
      for (std::int64_t x = 0; x < shape[2]; ++x) {
        const auto i = static_cast<std::size_t>(((t * shape[1] + y) * shape[2] + x) * 3);
        if (after[i] == before[i] && after[i + 1] == before[i + 1] && after[i + 2] == before[i + 2]) continue;
        top = std::min(top, y), left = std::min(left, x), bottom = std::max(bottom, y), right = std::max(right, x), ++changed;
      }
  if (changed == 0) return std::nullopt;
  CHECK(changed == shape[0] * (bottom - top + 1) * (right - left + 1));
  return Erased{top, left, bottom - top + 1, right - left + 1};
}
}  // namespace

// Catches: a region that moves from frame to frame, a ratio the wrong way round, a region that never reaches the edges.
TEST_CASE("random erasing: one region a clip, with torchvision's areas, ratios and places") {
  auto stage = built("augment.random_erasing", {{"p", 0.8}, {"value", std::vector<std::int64_t>{10, 20, 30}}, {"ratio", std::vector<double>{1.5, 3}}, {"scale", std::vector<double>{0.05, 0.2}}});
  int done = 0, at_top = 0, at_bottom = 0;
  std::vector<double> shares;
  for (std::uint64_t number = 0; number < 1000; ++number) {
    FakeSample sample;
    sample.put_clip("clip", 2, 60, 80, [](auto...) { return 200; });
    const auto before = sample.bytes("clip");
    stage.run(sample, {.key = key_of(number)});
    const auto region = rectangle(sample, before);
    if (!region) continue;
    ++done;
    const double ratio = static_cast<double>(region->height) / static_cast<double>(region->width), share = static_cast<double>(region->height * region->width) / 4800;
    REQUIRE(ratio > 1.3);
    REQUIRE(ratio < 3.4);
    shares.push_back(share);
    at_top += region->top == 0, at_bottom += region->top + region->height == 60;
    for (const std::int64_t c : {0, 1, 2}) REQUIRE(sample.pixel("clip", 1, region->top, region->left, c) == 10 * (c + 1));
  }
  CHECK(std::abs(done - 800) < 50);
  CHECK(at_top > 5);
  CHECK(at_bottom > 5);
  std::vector<double> uniform;
  for (int i = 0; i < 5000; ++i) uniform.push_back(0.05 + 0.15 * i / 5000);
  CHECK(distance(shares, uniform) < 1.2);  // whole pixels make steps of it
}

TEST_CASE("random erasing with noise: the same noise in all frames, all of its values") {
  auto stage = built("augment.random_erasing", {{"p", 1}, {"fill", "noise"}, {"scale", std::vector<double>{0.3, 0.3}}});
  std::set<int> values;
  for (std::uint64_t number = 0; number < 20; ++number) {
    FakeSample sample;
    sample.put_clip("clip", 3, 30, 41, [](auto...) { return 7; });
    stage.run(sample, {.key = key_of(number)});
    const auto bytes = sample.bytes("clip");
    const auto frame = static_cast<std::ptrdiff_t>(bytes.size() / 3);
    CHECK(std::equal(bytes.begin(), bytes.begin() + frame, bytes.begin() + frame));
    CHECK(std::equal(bytes.begin(), bytes.begin() + frame, bytes.begin() + 2 * frame));
    for (const auto byte : bytes) values.insert(byte);
  }
  CHECK(values.size() == 256);
}
