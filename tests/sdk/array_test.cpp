// Array, Shape, Clip, Frame, Info: ownership, bounds and views.
#include <doctest/doctest.h>

#include "../support/fake_sample.hpp"

#include <sluice/clip.hpp>

using namespace sluice;
using testing::Ledger;

namespace {
template <class Function> std::string thrown(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return error.message();
  }
  return {};
}
// A host that gives blocks of a ledger and nothing else.
struct Lender {
  Ledger ledger;
  abi::Sample raw{};
  Lender() {
    raw.host = &ledger;
    raw.allocate = [](void* host, std::uint64_t bytes, abi::Block* block, abi::Failure* failure) {
      if (bytes > 1000000) {
        failure->code = static_cast<int>(Code::plugin);
        std::strcpy(failure->what, "no");
        return failure->code;
      }
      *block = static_cast<Ledger*>(host)->take(bytes);
      return 0;
    };
  }
  Memory memory() { return Memory(&raw); }
};
}  // namespace

// Catches: a product that wraps round to something small and passes every later check.
TEST_CASE("a shape has at most 8 axes, and its elements do not overflow") {
  CHECK(Shape{}.elements() == 1);
  CHECK(Shape{3, 0, std::int64_t{1} << 40}.elements() == 0);
  CHECK(Shape{2, 3, 4}.elements() == 24);
  CHECK(Shape{2, 3}.text() == "[2, 3]");
  CHECK(Shape{2, 3} == Shape{2, 3});
  CHECK(!(Shape{2, 3} == Shape{2, 3, 1}));
  CHECK(thrown([] { static_cast<void>(Shape{-1}.elements()); }) == "an array has a negative extent");
  CHECK(thrown([] { static_cast<void>(Shape{std::int64_t{1} << 32, std::int64_t{1} << 32}.elements()); }) == "an array is larger than 2^62 elements");
  CHECK(thrown([] { static_cast<void>(Shape{1, 1, 1, 1, 1, 1, 1, 1, 1}); }) == "an array has at most 8 axes");
}

// Catches: bytes that go back twice, or never (each block is released exactly once, whoever moved it last).
TEST_CASE("the bytes of an array go back exactly once") {
  Lender lender;
  {
    Array a = lender.memory().array(DType::f32, {2, 3}, "HW");
    CHECK(a.bytes() == 24);
    CHECK(a.axes() == "HW");
    Array b = std::move(a);
    CHECK(a.empty_handle());
    CHECK(b.values<float>().size() == 6);
    Array c = lender.memory().array(DType::u8, {5});
    c = std::move(b);
    CHECK(lender.ledger.live() == 24);
    auto& same = c;
    c = std::move(same);
    CHECK(lender.ledger.live() == 24);
    const abi::Array raw = c.release();
    CHECK(c.empty_handle());
    CHECK(lender.ledger.live() == 24);
    Array d(raw);
  }
  CHECK(lender.ledger.live() == 0);
  CHECK(lender.ledger.blocks() == 0);
  CHECK(lender.ledger.faults().empty());
}

TEST_CASE("an array is read only as what it is, and never grows past its block") {
  Lender lender;
  Array a = lender.memory().array(DType::u8, {2, 10}, "TC");
  CHECK(thrown([&] { static_cast<void>(a.values<float>()); }) == "the array holds uint8, not float32");
  a.reshape({4, 5});
  CHECK(a.axes() == "TC");
  a.reshape({2, 2, 5}, "THW");
  CHECK(a.axes() == "THW");
  CHECK(thrown([&] { a.reshape({21}); }) == "reshape to [21] needs more bytes than the array holds");
  CHECK(a.shape() == Shape{2, 2, 5});
  a.reshape({1});
  CHECK(a.capacity() == 20);
  CHECK(thrown([&] { static_cast<void>(lender.memory().array(DType::f64, {1000000})); }) == "no");
  Array scalar = lender.memory().array(DType::i64, {});
  CHECK(scalar.values<std::int64_t>().size() == 1);
  Array empty = lender.memory().array(DType::i64, {0});
  CHECK(empty.values<std::int64_t>().empty());
}

TEST_CASE("a clip is uint8 THWC and nothing else") {
  Lender lender;
  CHECK(thrown([&] { Clip(lender.memory().array(DType::f32, {1, 2, 2, 3}), lender.memory()); }) == "a clip is uint8 with axes THWC, not float32 [1, 2, 2, 3]");
  CHECK(thrown([&] { Clip(lender.memory().array(DType::u8, {2, 2, 3}), lender.memory()); }) == "a clip is uint8 with axes THWC, not uint8 [2, 2, 3]");
  Clip clip(lender.memory().array(DType::u8, {2, 3, 5, 3}, "THWC"), lender.memory());
  clip.set_rate(12.5);
  const Clip other = clip.make(4, 1, 2);
  CHECK(other.array().shape() == Shape{4, 1, 2, 3});
  CHECK(other.rate() == 12.5);
  CHECK(other.array().axes() == "THWC");
}

// Catches: a mirror that is off by one in odd or even widths, swaps colours, or leaves the frame.
TEST_CASE("mirror and flip against a loop that says what they mean") {
  Lender lender;
  for (const std::int64_t channels : {1, 3, 4})
    for (const std::int64_t height : {1, 2, 5})
      for (const std::int64_t width : {1, 2, 7, 8}) {
        Clip clip(lender.memory().array(DType::u8, {2, height, width, channels}, "THWC"), lender.memory());
        for (std::size_t i = 0; i < clip.array().bytes(); ++i) clip.array().data()[i] = static_cast<std::uint8_t>(i * 7);
        const std::vector<std::uint8_t> before(clip.array().data(), clip.array().data() + clip.array().bytes());
        clip.frame(1).mirror();
        clip.frame(0).flip();
        bool same = true;
        for (std::int64_t t = 0; t < 2; ++t)
          for (std::int64_t y = 0; y < height; ++y)
            for (std::int64_t x = 0; x < width; ++x)
              for (std::int64_t c = 0; c < channels; ++c) {
                const auto from_y = t == 0 ? height - 1 - y : y;
                const auto from_x = t == 1 ? width - 1 - x : x;
                same &= clip.frame(t).at(y, x)[c] == before[static_cast<std::size_t>(((t * height + from_y) * width + from_x) * channels + c)];
              }
        CHECK(same);
      }
  CHECK(lender.ledger.faults().empty());
}

TEST_CASE("an Info survives the boundary") {
  Info info = Info::video(16, 240, 320, 29.97);
  info.varying = 0b101;
  info.scratch = 12345;
  const Info back = Info::from(info.raw());
  CHECK(back.shape == info.shape);
  CHECK(back.axes == "THWC");
  CHECK(back.rate == 29.97);
  CHECK(back.bytes() == 16u * 240 * 320 * 3);
  CHECK((back.varies(0) && !back.varies(1) && back.varies(2)));
  CHECK(back.scratch == 12345);
  Info text;
  text.text = true;
  CHECK(Info::from(text.raw()).bytes() == 0);
}
