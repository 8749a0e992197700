// What is no video, or a broken one: each kind ends in an error that names the file and says what is wrong and what to do,
// in every decoder; nothing hangs, nothing crashes. The time limit of the test is the proof that nothing hangs.
#include "support.hpp"

#include <cstring>
#include <functional>

#include <sys/stat.h>
#include <unistd.h>

using namespace sluice;
using namespace sluice::testing;
namespace fs = std::filesystem;

namespace {

std::string contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
std::string write(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  return path.string();
}

// One file for all cases.
struct Files {
  ScratchFolder scratch;
  std::string good = make_video(scratch.path() / "good.mp4", "-c:v libx264 -pix_fmt yuv420p -g 12 -bf 2");
  std::string bytes = contents(good);
  [[nodiscard]] fs::path at(const std::string& name) const { return scratch.path() / name; }
};
const Files& files() {
  static const Files made;
  return made;
}

// Error of probe(): code data, the file's name in front, something said about it.
void refuses(const std::string& decoder, const std::string& path, const std::string& says) {
  CAPTURE(decoder);
  CAPTURE(path);
  try {
    static_cast<void>(built(decoder).probe(path));
    FAIL("it was taken for a video");
  } catch (const Error& error) {
    CHECK(error.code() == Code::data);
    CHECK(error.message().find(says) != std::string::npos);
    CHECK(error.message().find(fs::path(path).filename().string()) != std::string::npos);
    CHECK(!error.hint().empty());
  }
}

const std::vector<std::string> both = {"decode.ffmpeg", "decode.opencv"};

}  // namespace

TEST_CASE("missing, empty, folder, FIFO, socket-like, unreadable") {
  mkfifo(files().at("pipe.mp4").c_str(), 0600);
  fs::create_directories(files().at("folder.mp4"));
  const auto empty = write(files().at("empty.mp4"), "");
  const auto locked = write(files().at("locked.mp4"), files().bytes);
  chmod(locked.c_str(), 0);
  for (const auto& decoder : both) {
    refuses(decoder, files().at("missing.mp4"), "no such file");
    refuses(decoder, empty, "empty");
    refuses(decoder, files().at("pipe.mp4"), "FIFO");
    refuses(decoder, files().at("folder.mp4"), "folder");
    CHECK(thrown([&] { static_cast<void>(built(decoder).probe("/dev/zero")); }).find("device") != std::string::npos);
    CHECK(thrown([&] { static_cast<void>(built(decoder).probe("")); }).find("no path") != std::string::npos);
    if (geteuid() != 0) refuses(decoder, locked, "cannot be read");
  }
}

TEST_CASE("what is no video: text, zeros, noise, sound alone, a picture's name") {
  std::string noise(50000, '\0');
  for (std::size_t i = 0; i < noise.size(); ++i) noise[i] = static_cast<char>(mix_bits(i));
  const auto sound = files().at("sound.mp4").string();
  shell("ffmpeg -nostdin -loglevel error -y -f lavfi -i sine=duration=1 -c:a aac " + quoted(sound));
  for (const auto& decoder : both) {
    refuses(decoder, sound, "no video stream");
    CHECK(!thrown([&] { static_cast<void>(built(decoder).probe(write(files().at("text.mp4"), "this is not a video\n"))); }).empty());
    CHECK(!thrown([&] { static_cast<void>(built(decoder).probe(write(files().at("zeros.avi"), std::string(100000, '\0')))); }).empty());
    CHECK(!thrown([&] { static_cast<void>(built(decoder).probe(write(files().at("noise.mkv"), noise))); }).empty());
  }
  // A playlist that names another file, or an address: a data set has no business to.
  CHECK(!thrown([&] { static_cast<void>(built("decode.ffmpeg").probe(write(files().at("list.m3u8"), "#EXTM3U\n#EXTINF:2,\ngood.mp4\n#EXT-X-ENDLIST\n"))); }).empty());
  CHECK(!thrown([&] { static_cast<void>(built("decode.ffmpeg").probe(write(files().at("list.ffconcat"), "ffconcat version 1.0\nfile good.mp4\n"))); }).empty());
}

// Catches: frames that are missing at the end being repeated, black, or silently fewer.
TEST_CASE("a file that was cut off is refused when its head is read, wherever it was cut") {
  const auto early = files().at("moov_first.mp4").string();
  shell("ffmpeg -nostdin -loglevel error -y -i " + quoted(files().good) + " -c copy -movflags +faststart " + quoted(early));
  const auto bytes = contents(early);
  for (const double part : {0.1, 0.3, 0.5, 0.9, 0.99}) {
    const auto path = write(files().at("cut.mp4"), bytes.substr(0, static_cast<std::size_t>(part * static_cast<double>(bytes.size()))));
    const auto said = thrown([&] { static_cast<void>(built("decode.ffmpeg").probe(path)); });
    CAPTURE(part);
    CHECK(!said.empty());
    if (part >= 0.5) CHECK(said.find("cut off") != std::string::npos);
    CHECK(!thrown([&] {
             auto decoder = built("decode.opencv");
             const auto header = decoder.probe(path);
             if (header.frames == 49) throw Error(Code::data, "one frame less, which OpenCV's guess does not show");
           }).empty());
  }
}

TEST_CASE("no frame in the file; a head that lies about their number") {
  const auto none = files().at("none.avi").string();
  shell("ffmpeg -nostdin -loglevel error -y -f lavfi -i testsrc2=size=64x64:duration=1 -vf select=0 -c:v mpeg4 " + quoted(none) + " 2>/dev/null || true");
  refuses("decode.ffmpeg", none, "no frame");
  // An AVI states its frames in the main header (byte 48) and in that of the stream (byte 140).
  const auto plain = make_video(files().at("plain.avi"), "-c:v mjpeg", "64x64", 1);
  auto bytes = contents(plain);
  const std::int32_t lie = 4000;
  for (const std::size_t at : {std::size_t{48}, std::size_t{140}}) std::memcpy(bytes.data() + at, &lie, 4);
  refuses("decode.ffmpeg", write(files().at("lie.avi"), bytes), "promises 4000 frames and it holds 25");
}

// A few kilobytes may declare pictures of gigabytes: refused before memory is taken.
TEST_CASE("pictures that are too large are refused by their head") {
  const auto large = files().at("large.avi").string();
  auto bytes = contents(make_video(files().at("small.avi"), "-c:v rawvideo -pix_fmt bgr24", "64x64", 0.2));
  const std::int32_t side = 60000;
  const auto head = bytes.find("strf");
  REQUIRE(head != std::string::npos);
  std::memcpy(bytes.data() + head + 12, &side, 4);
  std::memcpy(bytes.data() + head + 16, &side, 4);
  refuses("decode.ffmpeg", write(large, bytes), "60000x60000");
}

// Damage inside: the frames asked for either come as ffmpeg decodes the damaged file from its beginning, or an error names
// the frame. Catches: concealed or grey pictures delivered as if nothing were wrong. (H.264 has no checksum: what decodes
// without any error is what the file says.)
TEST_CASE("flipped bytes: ffmpeg's pixels or an error") {
  std::size_t refused = 0, exact = 0;
  for (std::uint64_t trial = 0; trial < 40; ++trial) {
    auto bytes = files().bytes;
    // mdat comes first: its packets fill the file up to the moov box
    const auto end = bytes.rfind("moov");
    for (int flips = 0; flips < 3; ++flips) bytes[60 + mix_bits(trial * 3 + static_cast<std::uint64_t>(flips)) % (end - 80)] ^= static_cast<char>(1 << (trial % 8));
    const auto path = write(files().at("flipped.mp4"), bytes);
    fs::last_write_time(path, fs::file_time_type::clock::now() + std::chrono::seconds(trial));
    const Numbers frames = {3, 20, 41};
    Bytes clip;
    auto decoder = built("decode.ffmpeg");
    const auto said = thrown([&] { clip = decoded(decoder, path, frames); });
    if (!said.empty()) ++refused;
    else if (const auto wrong = difference(clip, frames, ffmpeg_frames(path), 96 * 64 * 3); wrong.empty()) ++exact;
  }
  CHECK(refused + exact >= 39);  // one: damage in a frame that was skipped, and that made another refer to it
  CHECK(refused > 10);
}

TEST_CASE("names with spaces, quotes, Chinese and bytes that are no UTF-8") {
  const auto good = files().good;
  auto plain = built("decode.ffmpeg");
  const auto expected = decoded(plain, good, {0, 7});
  for (const std::string name : {"a b  c.mp4", "it's \"so\".mp4", "\xe8\xa7\x86\xe9\xa2\x91 \xe4\xb8\x80.mp4", "\xff\xfe\x80.mp4", "-i.mp4", "100%d.mp4", "file:x.mp4", "a\nb.mp4"}) {
    CAPTURE(name);
    const auto path = files().at(name).string();
    fs::copy_file(good, path, fs::copy_options::overwrite_existing);
    for (const auto& decoder : both) {
      auto recipe = built(decoder);
      CHECK(decoded(recipe, path, {0, 7}) == expected);
    }
  }
  const auto said = thrown([&] { static_cast<void>(built("decode.ffmpeg").probe(files().at("\xff.mp4").string())); });
  CHECK(said.find("\\xff.mp4: there is no such file") != std::string::npos);  // printable as it is
}

// Catches: an index that outlives the file, and frames of the old file, or of none, under the new one's name.
TEST_CASE("a file that is replaced during the run") {
  const auto path = files().at("replaced.mp4").string();
  fs::copy_file(files().good, path, fs::copy_options::overwrite_existing);
  auto decoder = built("decode.ffmpeg");
  const auto before = decoded(decoder, path, {0, 40});
  const auto other = make_video(files().at("other.mp4"), "-vf negate -c:v libx264 -pix_fmt yuv420p -g 5");
  fs::copy_file(other, path, fs::copy_options::overwrite_existing);
  fs::last_write_time(path, fs::file_time_type::clock::now() + std::chrono::seconds(5));
  const Numbers frames = {0, 40};
  const auto after = decoded(decoder, path, frames);
  CHECK(after != before);
  CHECK(difference(after, frames, ffmpeg_frames(other), 96 * 64 * 3).empty());
  // Shorter than the header said: an error, not the last frame again.
  make_video(path, "-c:v libx264 -pix_fmt yuv420p", "96x64", 0.4);
  fs::last_write_time(path, fs::file_time_type::clock::now() + std::chrono::seconds(9));
  CHECK(thrown([&] { static_cast<void>(decoded(decoder, path, {40})); }).find("frame 40 was asked for, and it has 10") != std::string::npos);
}

TEST_CASE("frame numbers that the file does not have") {
  for (const auto& name : both) {
    auto decoder = built(name);
    CHECK(thrown([&] { static_cast<void>(decoded(decoder, files().good, {3, 50})); }).find("frame 50 was asked for") != std::string::npos);
    CHECK(thrown([&] { static_cast<void>(decoded(decoder, files().good, {-1})); }).find("frame -1 was asked for") != std::string::npos);
  }
}
