// What a decoder takes from the heap, counted byte by byte, against what it declares: out() is what admission sets aside, so
// it must be an upper bound, for every codec, size and way of asking; and not a multiple of it, or nothing would fit.
#include "tests/support/failing_malloc.hpp"

#include "support.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

struct Kind {
  const char* name;
  const char* codec;
};

// Declared over taken, the smallest over the ways of asking.
double tightness(const std::string& path, const std::string& plugin) {
  double least = 1e9;
  for (const auto& settings : std::vector<std::vector<Setting>>{{}, {{"short_side", 48}}, {{"size", std::vector<std::int64_t>{200, 300}}}}) {
    auto decoder = built(plugin, settings);
    const auto header = decoder.probe(path);
    const Numbers frames = {0, header.frames / 2, header.frames - 1, 3};
    const auto info = decoder.out(Info::video(4, header.height, header.width, header.rate));
    FakeSample sample;
    const long before = FailingMalloc::live();
    FailingMalloc::reset_peak();
    decoder.decode(sample, path, frames);
    const auto used = FailingMalloc::peak() - before - static_cast<long>(info.bytes());
    if (used > 0) least = std::min(least, static_cast<double>(info.scratch) / static_cast<double>(used));
  }
  return least;
}

void check_bounds(const std::vector<std::string>& sizes, const std::vector<Kind>& kinds) {
  const ScratchFolder folder;
  for (const auto& size : sizes)
    for (const auto& kind : kinds) {
      const auto path = make_video(folder.path() / kind.name, kind.codec, size, 1);
      const auto ratio = tightness(path, "decode.ffmpeg");
      CHECK_MESSAGE(ratio >= 1.0, (std::string(kind.name) + " " + size + ": declared " + std::to_string(ratio) + " of what was taken"));
    }
}

const std::string plain = "-c:v libx264 -pix_fmt yuv420p";
const std::vector<Kind> all_kinds = {{"plain.mp4", "-c:v libx264 -pix_fmt yuv420p"},
                                     {"sixteen.mkv", "-c:v libx264 -pix_fmt yuv420p -preset veryfast -refs 16 -bf 4 -x264-params b-adapt=0:b-pyramid=normal"},
                                     {"ten.mkv", "-c:v libx264 -pix_fmt yuv420p10le -preset veryfast"},
                                     {"hevc.mkv", "-c:v libx265 -pix_fmt yuv420p -preset fast -x265-params log-level=none:pools=1"},
                                     {"vp9.webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8"},
                                     {"mpeg4.avi", "-c:v mpeg4 -bf 2"},
                                     {"mjpeg.avi", "-c:v mjpeg"},
                                     {"ffv1.mkv", "-c:v ffv1"},
                                     {"stream.ts", "-c:v libx264 -pix_fmt yuv420p"}};

}  // namespace

TEST_CASE("declared scratch is an upper bound of what decoding takes") {
  check_bounds({"64x64", "352x288"}, {all_kinds[0], all_kinds[1]});
  check_bounds({"352x288"}, {all_kinds[5]});
}
TEST_CASE("full: all codecs, up to 1080p" * doctest::skip()) {
  check_bounds({"64x64", "352x288", "1280x720"}, all_kinds);
  check_bounds({"1920x1080"}, {all_kinds[0], all_kinds[2], all_kinds[3], all_kinds[4], all_kinds[5], all_kinds[6]});
}

// Catches: a bound so wide that a budget is refused which would do.
TEST_CASE("and not more than six times what an ordinary file takes") {
  const ScratchFolder folder;
  const auto ratio = tightness(make_video(folder.path() / "v.mp4", plain, "1280x720", 0.4), "decode.ffmpeg");
  CHECK(ratio >= 1);
  CHECK(ratio < 6);
}

TEST_CASE("the other decoders") {
  const ScratchFolder folder;
  const auto path = make_video(folder.path() / "v.mp4", plain, "320x240", 1);
  CHECK(tightness(path, "decode.opencv") >= 1.0);
  for (const std::string kind : {"png", "jpg"}) {
    std::filesystem::create_directories(folder.path() / kind);
    shell("ffmpeg -nostdin -loglevel quiet -y -i " + quoted(path) + " -frames:v 6 " + quoted((folder.path() / kind).string()) + "/%d." + kind);
    CHECK(tightness((folder.path() / kind).string(), "decode.frames") >= 1.0);
  }
}

// A stream that needs more than is set aside for its size never starts: its head is refused, and headroom admits it.
TEST_CASE("an unusually hungry stream is refused by its head, and the hint works") {
  const ScratchFolder folder;
  const auto path = make_video(folder.path() / "v.mkv", "-c:v libx264 -pix_fmt yuv444p10le -refs 16 -preset veryfast", "320x240", 1);
  try {
    static_cast<void>(built("decode.ffmpeg").probe(path));
    FAIL("it was admitted");
  } catch (const Error& error) {
    CHECK(error.code() == Code::data);
    const auto at = error.hint().find("headroom = ");
    REQUIRE(at != std::string::npos);
    const double headroom = std::strtod(error.hint().c_str() + at + 11, nullptr);
    CHECK(built("decode.ffmpeg", {{"headroom", headroom}}).probe(path).frames == 25);
  }
}
