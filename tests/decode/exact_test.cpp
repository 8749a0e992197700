// decode.ffmpeg against ffmpeg's own sequential decode: every byte of every frame, whatever frames are asked for.
#include "support.hpp"

#include <cmath>
#include <random>

using namespace sluice;
using namespace sluice::testing;

namespace {

struct Kind {
  const char* name;  // of the file
  const char* codec;
  const char* size = "96x64";
  double seconds = 1.6;
  double rate = 25;
};

// What goes wrong where: open GOP (frames before a key frame need the GOP before), B pyramids (order), a GOP of 250 (long
// runs), intra refresh (key flags without key frames), odd sizes (chroma rounding, padding), unusual containers (no index,
// no time stamps, time stamps of decoding only), formats beside 8-bit 4:2:0.
const std::vector<Kind> fast_kinds = {
    {"open_gop.mp4", "-c:v libx264 -pix_fmt yuv420p -g 10 -bf 3 -x264-params open-gop=1:b-adapt=0:scenecut=0"},
    {"pyramid.mkv", "-c:v libx264 -pix_fmt yuv420p -g 24 -bf 7 -x264-params b-pyramid=normal:b-adapt=0:ref=5"},
    {"gop250.mp4", "-c:v libx264 -pix_fmt yuv420p -g 250 -x264-params scenecut=0", "96x64", 10.4},
    {"refresh.mp4", "-c:v libx264 -pix_fmt yuv420p -g 15 -x264-params intra-refresh=1"},
    {"odd.mkv", "-vf scale=95:63 -c:v libx264 -pix_fmt yuv444p"},
    {"vfr.mp4", "-vf select='not(mod(n\\,3)*mod(n\\,7))' -vsync vfr -c:v libx264 -pix_fmt yuv420p -bf 2", "96x64", 4},
    {"stream.ts", "-c:v libx264 -pix_fmt yuv420p -g 12 -bf 2"},
    {"raw.h264", "-c:v libx264 -pix_fmt yuv420p -g 12 -bf 2"},
    {"mpeg4.avi", "-c:v mpeg4 -bf 2 -g 12 -q:v 4"},
    {"msmpeg4.avi", "-c:v msmpeg4v3 -q:v 4"},
    {"mjpeg.avi", "-c:v mjpeg -q:v 4"},
    {"ten_bit.mkv", "-c:v libx264 -pix_fmt yuv420p10le"},
};
const std::vector<Kind> full_kinds = {
    {"closed.mp4", "-c:v libx264 -pix_fmt yuv420p -g 12"},
    {"intra.mp4", "-c:v libx264 -pix_fmt yuv420p -g 1"},
    {"cropped.mp4", "-vf scale=100:54 -c:v libx264 -pix_fmt yuv420p"},
    {"tall.mp4", "-vf scale=34:130 -c:v libx264 -pix_fmt yuv420p -bf 2"},
    {"film.mp4", "-c:v libx264 -pix_fmt yuv420p", "96x64", 2, 24000.0 / 1001},
    {"mpeg2.mpg", "-c:v mpeg2video -bf 2 -g 12 -q:v 4"},
    {"full_range.mp4", "-c:v libx264 -pix_fmt yuvj420p"},
    {"ffv1.mkv", "-c:v ffv1"},
    {"bt709.mp4", "-c:v libx264 -pix_fmt yuv420p -colorspace bt709 -color_primaries bt709 -color_trc bt709"},
    {"hevc_open.mp4", "-c:v libx265 -pix_fmt yuv420p -x265-params log-level=none:keyint=12:open-gop=1:bframes=4:pools=1"},
    {"hevc_10.mkv", "-c:v libx265 -pix_fmt yuv420p10le -x265-params log-level=none:keyint=20:pools=1"},
    {"vp8.webm", "-c:v libvpx -deadline realtime -cpu-used 8 -auto-alt-ref 1 -lag-in-frames 10 -b:v 200k"},
    {"vp9.webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -auto-alt-ref 1 -lag-in-frames 10 -b:v 200k"},
    {"theora.ogv", "-c:v libtheora -q:v 5"},
    {"flv.flv", "-c:v flv1 -q:v 4"},
    {"wmv.wmv", "-c:v wmv2 -q:v 4"},
    {"cinepak.avi", "-c:v cinepak", "96x64", 1},
    {"prores.mov", "-c:v prores_ks"},
    {"png.mov", "-c:v png -pix_fmt rgb24"},
    {"palette.avi", "-c:v rawvideo -pix_fmt pal8"},
    {"gif.gif", "", "96x64", 1, 10},
    {"interlaced.mp4", "-c:v libx264 -pix_fmt yuv420p -flags +ilme+ildct -g 12"},
    {"mbaff.mkv", "-c:v libx264 -pix_fmt yuv420p -x264-params interlaced=1:keyint=12 -vf scale=64:64"},
    {"large.mp4", "-c:v libx264 -pix_fmt yuv420p -preset veryfast", "1280x720", 2},
    {"slow.mp4", "-c:v libx264 -pix_fmt yuv420p -preset veryslow", "320x240", 4},
};

// Asked for by name of the file; empty if every byte is right.
std::string check_kind(const std::filesystem::path& folder, const Kind& kind, int random_sets) {
  const auto path = make_video(folder / kind.name, kind.codec, kind.size, kind.seconds, kind.rate);
  const auto all = ffmpeg_frames(path);
  auto decoder = built("decode.ffmpeg");
  const auto header = decoder.probe(path);
  const auto frame_bytes = static_cast<std::size_t>(header.width * header.height * 3);
  if (all.size() != static_cast<std::size_t>(header.frames) * frame_bytes)
    return "ffmpeg gives " + std::to_string(all.size()) + " bytes, the head says " + std::to_string(header.frames) + " frames of " + std::to_string(header.width) + "x" + std::to_string(header.height);
  const auto every = all_of(header.frames);
  if (auto wrong = difference(decoded(decoder, path, every), every, all, frame_bytes); !wrong.empty()) return "all frames: " + wrong;

  std::mt19937_64 random(static_cast<std::uint64_t>(header.frames));
  for (int set = 0; set < random_sets; ++set) {
    Numbers frames;
    const auto count = 1 + random() % 9;
    const auto any = [&] { return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(header.frames)); };
    for (std::uint64_t i = 0; i < count; ++i) frames.push_back(i > 0 && random() % 4 == 0 ? frames[random() % i] : any());  // in any order, with repeats
    if (auto wrong = difference(decoded(decoder, path, frames), frames, all, frame_bytes); !wrong.empty()) return "random set " + std::to_string(set) + ": " + wrong;
  }

  const auto times = decoder.times(path), expected = ffprobe_times(path);
  if (times.size() != static_cast<std::size_t>(header.frames)) return std::to_string(times.size()) + " times";
  for (std::size_t k = 0; k < times.size() && expected.size() == times.size(); ++k)
    if (std::abs(times[k] - expected[k]) > 2e-3 + 1e-6) return "frame " + std::to_string(k) + " is at " + std::to_string(times[k]) + " s, ffprobe says " + std::to_string(expected[k]);
  return {};
}

void check_all(const std::vector<Kind>& kinds, int random_sets) {
  const ScratchFolder folder;
  for (const auto& kind : kinds) {
    std::string wrong;
    try {
      wrong = check_kind(folder.path(), kind, random_sets);
    } catch (const std::exception& error) {
      wrong = error.what();
    }
    CHECK_MESSAGE(wrong.empty(), (std::string(kind.name) + ": " + wrong));
  }
}

}  // namespace

TEST_CASE("every pixel of any frames in any order is that of ffmpeg's sequential decode") { check_all(fast_kinds, 8); }
TEST_CASE("full: more codecs and containers, more frames" * doctest::skip()) {
  check_all(fast_kinds, 100);
  check_all(full_kinds, 60);
}

// Catches: rotation that is ignored, turned the wrong way, or applied to the size and not to the pixels.
TEST_CASE("rotated files come upright, as ffmpeg shows them") {
  const ScratchFolder folder;
  const auto plain = make_video(folder.path() / "plain.mp4", "-c:v libx264 -pix_fmt yuv420p", "96x64", 0.4);
  for (const std::string angle : {"90", "180", "270"}) {
    const auto path = (folder.path() / (angle + ".mp4")).string();
    shell("ffmpeg -nostdin -loglevel error -y -i " + quoted(plain) + " -c copy -metadata:s:v:0 rotate=" + angle + " " + quoted(path));
    auto decoder = built("decode.ffmpeg");
    const auto header = decoder.probe(path);
    CHECK(header.width == (angle == "180" ? 96 : 64));
    const auto every = all_of(header.frames);
    CAPTURE(angle);
    CHECK(difference(decoded(decoder, path, every), every, ffmpeg_frames(path), 96 * 64 * 3).empty());
    CHECK(decoded(decoder, path, {3}) != decoded(decoder, plain, {3}));
  }
}

// Catches: frames that are off by one, out of order or from another time: the error of scaling is far below a frame's motion.
TEST_CASE("short_side and size scale to within rounding of ffmpeg's own scaler") {
  const ScratchFolder folder;
  const auto path = make_video(folder.path() / "v.mp4", "-c:v libx264 -pix_fmt yuv420p -g 30", "320x240", 1);
  const auto oracle = ffmpeg_frames(path, "scale=96:72:flags=bilinear");
  const Numbers frames = {24, 3, 3, 11};
  for (auto settings : std::vector<std::vector<Setting>>{{{"short_side", 72}}, {{"size", std::vector<std::int64_t>{72, 96}}}}) {
    auto decoder = built("decode.ffmpeg", settings);
    const auto clip = decoded(decoder, path, frames);
    REQUIRE(clip.size() == 4 * 96 * 72 * 3);
    double error = 0, moved = 0;
    for (std::size_t i = 0; i < clip.size(); ++i) {
      const auto frame = static_cast<std::size_t>(frames[i / (96 * 72 * 3)]), at = i % (96 * 72 * 3);
      error += std::abs(clip[i] - oracle[frame * 96 * 72 * 3 + at]);
      moved += std::abs(clip[i] - oracle[(frame == 0 ? 1 : frame - 1) * 96 * 72 * 3 + at]);
    }
    CHECK(error / static_cast<double>(clip.size()) < 2.5);
    CHECK(moved > 1.5 * error);
  }
  CHECK(built("decode.ffmpeg", {{"short_side", 72}}).out(Info::video(1, 101, 333)).shape == Shape{1, 72, 237, 3});
  CHECK(thrown([] { static_cast<void>(built("decode.ffmpeg", {{"short_side", 72}, {"size", std::vector<std::int64_t>{72, 96}}})); }, Code::configuration).find("exclude") != std::string::npos);
}

// A variable rate is said to be one, and the mean is that of the frames.
TEST_CASE("the rate of a file") {
  const ScratchFolder folder;
  auto decoder = built("decode.ffmpeg");
  const auto film = decoder.probe(make_video(folder.path() / "film.mp4", "-c:v libx264 -pix_fmt yuv420p", "64x64", 2, 24000.0 / 1001));
  CHECK(film.rate == doctest::Approx(24000.0 / 1001).epsilon(1e-9));
  CHECK(film.variable_rate == 0);
  const auto varied = decoder.probe(make_video(folder.path() / "vfr.mp4", "-vf select='not(mod(n\\,3)*mod(n\\,7))' -vsync vfr -c:v libx264 -pix_fmt yuv420p", "64x64", 4));
  CHECK(varied.variable_rate == 1);
  CHECK(varied.rate < 25);
}
