// decode.frames and decode.opencv against ffmpeg: folders of pictures, and the second opinion on video files.
#include "support.hpp"

#include "../../plugins/decode/image_folder.hpp"
#include "../../plugins/decode/image_size.hpp"

using namespace sluice;
using namespace sluice::testing;
using sluice::decode::natural_less;
namespace fs = std::filesystem;

namespace {
double mean_difference(const Bytes& a, const Bytes& b) {
  if (a.size() != b.size()) return 1e9;
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::abs(a[i] - b[i]);
  return sum / static_cast<double>(a.size());
}
}  // namespace

TEST_CASE("natural order: numbers count as numbers") {
  std::vector<std::string> names = {"f10", "f9", "f1", "f010", "f2b10", "f2b9", "f2a", "F1", "10", "9", "f", "f99999999999999999999999", "f100000000000000000000000"};
  std::sort(names.begin(), names.end(), [](const auto& a, const auto& b) { return natural_less(a, b); });
  CHECK(names == std::vector<std::string>{"9", "10", "F1", "f", "f1", "f2a", "f2b9", "f2b10", "f9", "f010", "f10", "f99999999999999999999999", "f100000000000000000000000"});
  for (const auto& a : names)
    for (const auto& b : names) CHECK((natural_less(a, b) && natural_less(b, a)) == false);
}

// Catches: BGR for RGB, frame10 before frame2, another file of the folder taken for a frame.
TEST_CASE("a folder of pictures is the video that they came from") {
  const ScratchFolder scratch;
  const auto path = make_video(scratch.path() / "v.mp4", "-c:v libx264 -pix_fmt yuv420p", "96x64", 0.48);
  const auto folder = scratch.path() / "\xe5\xb8\xa7 of v";
  fs::create_directories(folder);
  shell("ffmpeg -nostdin -loglevel quiet -y -i " + quoted(path) + " " + quoted(folder.string()) + "/f%d.png");
  std::ofstream(folder / "notes.txt") << "not a frame";
  std::ofstream(folder / ".hidden.png") << "not a frame";
  auto decoder = built("decode.frames", {{"rate", 12.5}});
  const auto header = decoder.probe(folder.string());
  CHECK(header.frames == 12);
  CHECK(header.width == 96);
  CHECK(header.rate == 12.5);
  const Numbers frames = {11, 0, 1, 9, 10, 1};
  CHECK(difference(decoded(decoder, folder.string(), frames), frames, ffmpeg_frames(path), 96 * 64 * 3).empty());
  CHECK(decoder.times(folder.string())[10] == doctest::Approx(0.8));
  auto small = built("decode.frames", {{"short_side", 32}});
  const auto clip = decoded(small, folder.string(), {5});
  const auto all = ffmpeg_frames(path);
  REQUIRE(clip.size() == 48 * 32 * 3);
  int worst = 0;  // against the mean of four pixels
  for (std::size_t y = 0; y < 32; ++y)
    for (std::size_t x = 0; x < 48; ++x)
      for (std::size_t c = 0; c < 3; ++c) {
        const auto at = [&](std::size_t dy, std::size_t dx) { return static_cast<int>(all[5 * 96 * 64 * 3 + ((2 * y + dy) * 96 + 2 * x + dx) * 3 + c]); };
        worst = std::max(worst, std::abs(clip[(y * 48 + x) * 3 + c] * 4 - at(0, 0) - at(0, 1) - at(1, 0) - at(1, 1)));
      }
  CHECK(worst <= 2);
}

TEST_CASE("bad folders and bad pictures are errors with a name") {
  const ScratchFolder scratch;
  const auto decoder = built("decode.frames");
  const auto said = [&](const fs::path& path) { return thrown([&] { static_cast<void>(decoder.probe(path.string())); }); };
  CHECK(said(scratch.path() / "none").find("no such folder") != std::string::npos);
  CHECK(said(scratch.path()).find("holds no .jpg") != std::string::npos);
  std::ofstream(scratch.path() / "1.png") << "no picture";
  CHECK(said(scratch.path()).find("1.png: it is no JPEG, PNG or BMP") != std::string::npos);
  CHECK(said(scratch.path() / "1.png").find("no folder of pictures") != std::string::npos);
  // A head that declares 50000 x 50000: refused before 7.5 GB are taken.
  std::string png("\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xc3\x50\0\0\xc3\x50\x08\x02\0\0\0", 29);
  std::ofstream(scratch.path() / "1.png") << png;
  CHECK(said(scratch.path()).find("50000x50000") != std::string::npos);
  // Cut off, empty, of another size.
  const auto folder = scratch.path() / "mixed";
  fs::create_directories(folder);
  shell("ffmpeg -nostdin -loglevel error -y -f lavfi -i testsrc2=size=64x48 -frames:v 3 " + quoted(folder.string()) + "/%d.jpg");
  shell("ffmpeg -nostdin -loglevel error -y -f lavfi -i testsrc2=size=32x48 -frames:v 1 " + quoted(folder.string()) + "/4.jpg");
  std::ofstream(folder / "5.jpg") << "";
  auto mixed = built("decode.frames");
  CHECK(thrown([&] { static_cast<void>(decoded(mixed, folder.string(), {3})); }).find("4.jpg: it is 32x48") != std::string::npos);
  CHECK(thrown([&] { static_cast<void>(decoded(mixed, folder.string(), {4})); }).find("5.jpg: the file is empty") != std::string::npos);
  CHECK(thrown([&] { static_cast<void>(decoded(mixed, folder.string(), {5})); }).find("frame 5 was asked for") != std::string::npos);
  CHECK(decoded(mixed, folder.string(), {2, 0}).size() == 2 * 64 * 48 * 3);
}

// The two decoders share libav and nothing of ours: frame numbers, order, colours and sizes are checked by somebody else.
TEST_CASE("decode.opencv agrees with ffmpeg") {
  const ScratchFolder folder;
  for (const auto& [name, codec] : std::vector<std::pair<std::string, std::string>>{{"v.mp4", "-c:v libx264 -pix_fmt yuv420p -g 10 -bf 3 -x264-params open-gop=1"},
                                                                                    {"v.avi", "-c:v mpeg4 -bf 2 -q:v 4"},
                                                                                    {"odd.mkv", "-vf scale=95:63 -c:v libx264 -pix_fmt yuv444p"}}) {
    const auto path = make_video(folder.path() / name, codec);
    auto decoder = built("decode.opencv");
    const auto header = decoder.probe(path);
    const auto all = ffmpeg_frames(path);
    CAPTURE(name);
    REQUIRE(all.size() == static_cast<std::size_t>(header.frames * header.height * header.width * 3));
    const Numbers frames = {33, 2, 2, 48, 0};
    const auto clip = decoded(decoder, path, frames);
    const auto bytes = static_cast<std::size_t>(header.height * header.width * 3);
    for (std::size_t i = 0; i < frames.size(); ++i) {
      const auto at = static_cast<std::ptrdiff_t>(static_cast<std::size_t>(frames[i]) * bytes), place = static_cast<std::ptrdiff_t>(i * bytes), n = static_cast<std::ptrdiff_t>(bytes);
      CHECK(mean_difference(Bytes(clip.begin() + place, clip.begin() + place + n), Bytes(all.begin() + at, all.begin() + at + n)) < 1.0);
    }
    const auto times = decoder.times(path);
    REQUIRE(times.size() == 50);
    for (std::size_t k = 0; k < times.size(); ++k) CHECK(times[k] == doctest::Approx(static_cast<double>(k) / 25).epsilon(0.002));
  }
  for (const std::string angle : {"90", "180", "270"}) {
    const auto turned = (folder.path() / (angle + ".mp4")).string();
    shell("ffmpeg -nostdin -loglevel error -y -i " + quoted((folder.path() / "v.mp4").string()) + " -c copy -metadata:s:v:0 rotate=" + angle + " " + quoted(turned));
    auto decoder = built("decode.opencv");
    CHECK(decoder.probe(turned).height == (angle == "180" ? 64 : 96));
    const auto all = ffmpeg_frames(turned);
    CHECK(mean_difference(decoded(decoder, turned, {0}), Bytes(all.begin(), all.begin() + 96 * 64 * 3)) < 3.0);
  }
}
