// The parts of decode.ffmpeg by themselves: planted mistakes that the comparison with ffmpeg must notice, the work that is
// saved, the index on disk and in memory.
#include "support.hpp"

#include <map>

#include "../../plugins/decode/build_index.hpp"
#include "../../plugins/decode/frame_reader.hpp"
#include "../../plugins/decode/index_file.hpp"
#include "../../plugins/decode/index_store.hpp"
#include "../../plugins/decode/picture.hpp"

using namespace sluice;
using namespace sluice::testing;
using namespace sluice::decode;
namespace fs = std::filesystem;

namespace {

struct Video {
  ScratchFolder folder;
  std::string path = make_video(folder.path() / "v.mp4", "-c:v libx264 -pix_fmt yuv420p -g 12 -bf 3 -x264-params open-gop=1:b-adapt=0:scenecut=0");
  Bytes all = ffmpeg_frames(path);
};
const Video& video() {
  static const Video made;
  return made;
}
constexpr std::size_t frame_bytes = 96 * 64 * 3;

struct Read {
  Bytes clip;
  FrameReader::Work work;
};
Read read_with(const VideoIndex& index, const Numbers& frames, AVDiscard unasked = AVDISCARD_NONREF) {
  const InputFile file(video().path);
  Picture picture({}, {64, 96});
  FrameReader reader(file, index, unasked);
  Read out{Bytes(frames.size() * frame_bytes), {}};
  reader.read(frames, [&](std::int64_t number, const AVFrame& frame) {
    for (std::size_t i = 0; i < frames.size(); ++i)
      if (frames[i] == number) picture.convert(frame, out.clip.data() + i * frame_bytes);
  });
  out.work = reader.work();
  return out;
}
VideoIndex indexed() { return build_index(InputFile(video().path)); }

// Right pixels, wrong pixels, or an error?
enum class Outcome { right, wrong, error };
Outcome outcome(const VideoIndex& index, const Numbers& frames, AVDiscard unasked = AVDISCARD_NONREF) {
  try {
    return difference(read_with(index, frames, unasked).clip, frames, video().all, frame_bytes).empty() ? Outcome::right : Outcome::wrong;
  } catch (const Error&) {
    return Outcome::error;
  }
}

const Numbers some = {2, 9, 11, 13, 30, 44};

}  // namespace

// Each is a mistake that a reader could make; the tests against ffmpeg are worth something only if they see it.
TEST_CASE("planted: what a wrong reader would deliver is noticed") {
  CHECK(outcome(indexed(), some) == Outcome::right);
  SUBCASE("skips one kind of packet too many: frames that others refer to") {
    CHECK(outcome(indexed(), some, AVDISCARD_NONINTRA) != Outcome::right);
    CHECK(outcome(indexed(), some, AVDISCARD_NONKEY) != Outcome::right);
  }
  SUBCASE("counts frames from 1") {
    auto index = indexed();
    std::rotate(index.frames.begin(), index.frames.begin() + 1, index.frames.end());
    for (std::size_t k = 0; k < index.frames.size(); ++k) index.packets[static_cast<std::size_t>(index.frames[k])].frame = static_cast<std::int32_t>(k);
    CHECK(outcome(index, some) == Outcome::wrong);
  }
  SUBCASE("numbers frames in the order of decoding") {
    auto index = indexed();
    for (std::size_t k = 0; k < index.frames.size(); ++k) index.frames[k] = static_cast<std::int32_t>(k), index.packets[k].frame = static_cast<std::int32_t>(k);
    CHECK(outcome(index, some) == Outcome::wrong);
  }
  SUBCASE("starts at a packet that is no key frame: refused, then decoded from where it is right") {
    auto index = indexed();
    for (auto& packet : index.packets) packet.key = true;
    CHECK(outcome(index, some) != Outcome::wrong);
  }
  SUBCASE("starts at the key frame after which a leading frame of an open GOP is stored") {
    auto index = indexed();
    Numbers leading;  // stored after a key frame and shown before it
    std::int64_t key_time = 0;
    for (const auto& packet : index.packets) {
      if (packet.key) key_time = packet.time;
      else if (packet.time < key_time) leading.push_back(packet.frame);
    }
    REQUIRE(!leading.empty());
    CHECK(outcome(index, {leading.front()}) == Outcome::right);
    // A planner that takes the last key packet in the file starts too late for it; shown as if later, it is started there.
    auto& packet = index.packets[static_cast<std::size_t>(index.frames[static_cast<std::size_t>(leading.front())])];
    packet.time = key_time + 1000000;
    CHECK(outcome(index, {leading.front()}) != Outcome::right);
  }
  SUBCASE("an offset one byte too far") {
    auto index = indexed();
    for (auto& packet : index.packets) ++packet.offset;
    CHECK(outcome(index, some) != Outcome::right);
  }
}

// Catches: decoding everything, as a reader would that forgets the index: right, and slow.
TEST_CASE("packets that nothing needs are not decoded") {
  ScratchFolder folder;
  const auto path = make_video(folder.path() / "long.mp4", "-c:v libx264 -pix_fmt yuv420p -g 12 -bf 2 -x264-params scenecut=0", "64x64", 20);
  const InputFile file(path);
  const auto index = build_index(file);
  REQUIRE(index.frame_count() == 500);
  FrameReader reader(file, index);
  std::int64_t came = 0;
  const Numbers frames = {7, 250, 251, 490};
  reader.read(frames, [&](std::int64_t, const AVFrame&) { ++came; });
  CHECK(came == 4);
  CHECK(reader.work().packets <= 45);  // at most a GOP and the frames held back, for each of three places
  CHECK(reader.work().runs == 3);
  CHECK(reader.work().retries == 0);
  CHECK(index.direct);
}

TEST_CASE("an index on disk is the index, or nothing") {
  const ScratchFolder folder;
  const InputFile file(video().path);
  const auto made = build_index(file);
  CHECK(!load_index(folder.path(), file));
  store_index(folder.path(), file, made);
  const auto loaded = load_index(folder.path(), file);
  REQUIRE(loaded);
  CHECK(loaded->frames == made.frames);
  CHECK(loaded->working_set == made.working_set);
  CHECK(loaded->rate == made.rate);
  CHECK(outcome(*loaded, some) == Outcome::right);

  fs::path stored;
  for (const auto& entry : fs::recursive_directory_iterator(folder.path()))
    if (entry.is_regular_file()) stored = entry.path();
  std::ifstream in(stored, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  const auto with = [&](const std::string& changed) {
    std::ofstream(stored, std::ios::binary | std::ios::trunc) << changed;
    return load_index(folder.path(), file).has_value();
  };
  CHECK(with(bytes));
  std::size_t accepted = 0;
  for (std::size_t at = 0; at < bytes.size(); at += 1 + bytes.size() / 400) {
    auto changed = bytes;
    changed[at] = static_cast<char>(changed[at] ^ (1 << at % 8));
    accepted += with(changed) + with(bytes.substr(0, at));
  }
  CHECK(accepted == 0);
  CHECK(!with(bytes + "x"));
  CHECK(with(bytes));
  // Of another state of the file.
  const auto copy = (folder.path() / "copy.mp4").string();
  fs::copy_file(video().path, copy);
  const auto before = InputFile(copy).identity();
  store_index(folder.path(), InputFile(copy), build_index(InputFile(copy)));
  CHECK(load_index(folder.path(), InputFile(copy)));
  fs::last_write_time(copy, fs::last_write_time(copy) + std::chrono::seconds(1));
  CHECK(InputFile(copy).identity() != before);
  CHECK(!load_index(folder.path(), InputFile(copy)));
}

// Catches: a cache that grows with the data set, past every budget.
TEST_CASE("indices in memory stay below their bound; what was pushed out is found again") {
  const ScratchFolder folder;
  std::vector<std::string> paths;
  for (int i = 0; i < 40; ++i) {
    paths.push_back((folder.path() / (std::to_string(i) + ".mp4")).string());
    fs::copy_file(video().path, paths.back());
  }
  IndexStore store(16 << 10);
  for (int round = 0; round < 2; ++round)
    for (const auto& path : paths) {
      CHECK(store.find(InputFile(path), folder.path() / "cache")->frame_count() == 50);
      CHECK(store.held() <= (16 << 10));
    }
  CHECK(store.held() > 0);
  const auto one = store.find(InputFile(paths.back()), {});
  CHECK(store.find(InputFile(paths.back()), {}) == one);  // not made again
  // A folder that cannot be written to is no error.
  CHECK(IndexStore(1 << 20).find(InputFile(paths.front()), "/proc/nowhere")->frame_count() == 50);
  // An index larger than the bound is used and not kept.
  IndexStore tiny(10);
  CHECK(tiny.find(InputFile(paths.front()), {})->frame_count() == 50);
  CHECK(tiny.held() == 0);
}
