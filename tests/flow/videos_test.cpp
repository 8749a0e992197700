// Pieces of videos, the cache of headers, and work done side by side.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <atomic>
#include <cmath>
#include <fstream>
#include <limits>
#include <set>

#include <sys/stat.h>

#include "framework/flow/header_cache.hpp"
#include "framework/flow/videos.hpp"
#include "tests/support/fake_videos.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

std::pair<std::int64_t, std::int64_t> piece(Unit unit, double start, double end, std::int64_t frames, double rate, const std::vector<double>& times = {}) {
  const auto range = frame_range(unit, start, end, frames, rate, times);
  if (std::holds_alternative<std::string>(range)) return {-1, -1};
  return {std::get<FrameRange>(range).first, std::get<FrameRange>(range).frames};
}
using P = std::pair<std::int64_t, std::int64_t>;

}  // namespace

TEST_CASE("pieces: the frames whose time lies in [start, end)") {
  CHECK(piece(Unit::whole, 0, 0, 100, 25) == P{0, 100});
  CHECK(piece(Unit::seconds, 1, 2, 100, 25) == P{25, 25});
  CHECK(piece(Unit::seconds, 10.0 / 3, 4, 1000, 30) == P{100, 20});        // 10 / 3 x 30 is 99.99999999999999 or 100.00000000000001
  CHECK(piece(Unit::seconds, 0.1 + 0.2, 0.6, 1000, 10) == P{3, 3});
  CHECK(piece(Unit::seconds, 1, 2, 1000, 30000.0 / 1001) == P{30, 30});    // frames 29.97 a second: 29 is at 0.968 s, 30 at 1.001 s
  CHECK(piece(Unit::seconds, 3, 99, 100, 25) == P{75, 25});                // the end is cut off at the video's
  CHECK(piece(Unit::frames, 10, 20, 100, 0) == P{10, 10});
  CHECK(piece(Unit::fraction, 0, 0.5, 101, 0) == P{0, 51});
  CHECK(piece(Unit::fraction, 0.5, 1, 101, 0) == P{51, 50});               // neighbours share no frame and lose none
  const std::vector<double> uneven{0, 0.1, 0.5, 0.5, 2, 3};
  CHECK(piece(Unit::seconds, 0.1, 2, 6, 5, uneven) == P{1, 3});
  CHECK(piece(Unit::seconds, 2, 9, 6, 5, uneven) == P{4, 2});
}

TEST_CASE("pieces against a naive loop over all frames") {
  Rng rng(abi::RandomKey{1, 0, 0, 0});
  for (int i = 0; i < 3000; ++i) {
    const auto frames = 1 + rng.index(300);
    const double rate = rng.uniform(1, 60), start = rng.uniform(0, 6), end = start + rng.uniform(0, 6);
    std::int64_t first = -1, count = 0;
    for (std::int64_t f = 0; f < frames; ++f) {
      const double time = static_cast<double>(f) / rate;
      if (time >= start && time < end && first < 0) first = f;
      if (time >= start && time < end) ++count;
    }
    CHECK(piece(Unit::seconds, start, end, frames, rate) == (count ? P{first, count} : P{-1, -1}));
  }
}

TEST_CASE("pieces that make no sense say why") {
  const auto why = [](Unit unit, double start, double end, double rate = 25) {
    const auto range = frame_range(unit, start, end, 100, rate, {});
    return std::holds_alternative<std::string>(range) ? std::get<std::string>(range) : "";
  };
  CHECK(why(Unit::seconds, 5, 6) == "the piece from 5 to 6 lies behind the end of the video (100 frames)");
  CHECK(why(Unit::seconds, 2, 1) == "the piece from 2 to 1 is empty");
  CHECK(why(Unit::seconds, 0, 1, 0).find("no frame rate") != std::string::npos);
  CHECK(why(Unit::seconds, std::nan(""), 1) != "");
  CHECK(why(Unit::frames, -1, 1) != "");
  CHECK(why(Unit::frames, 0, std::numeric_limits<double>::infinity()) != "");
  CHECK(why(static_cast<Unit>(17), 0, 1) != "");
}

TEST_CASE("headers come back from the cache; a file that changed, another decoder, a damaged cache do not") {
  ScratchFolder folder;
  const auto file = folder.path() / "cache" / "headers.bin";
  const FileState state{100, 5, 1};
  const abi::Header header{sizeof(abi::Header), 1, 123, 640, 480, 29.97};
  {
    HeaderCache cache(file);
    CHECK_FALSE(cache.find("decode.a", "/x.mp4", state));
    cache.put("decode.a", "/x.mp4", state, header);
    for (int i = 0; i < 1000; ++i) cache.put("decode.a", fmt::format("/{}", i), state, {sizeof(abi::Header), 0, i, 1, 1, 25});
    cache.save();
  }
  {
    HeaderCache cache(file);
    const auto found = cache.find("decode.a", "/x.mp4", state);
    REQUIRE(found);
    CHECK(found->frames == 123);
    CHECK(found->variable_rate == 1);
    CHECK(found->rate == 29.97);
    for (int i = 0; i < 1000; ++i) CHECK(cache.find("decode.a", "/" + std::to_string(i), state)->frames == i);
    CHECK_FALSE(cache.find("decode.b", "/x.mp4", state));
    CHECK_FALSE(cache.find("decode.a", "/y.mp4", state));
    CHECK_FALSE(cache.find("decode.a", "/x.mp4", {101, 5, 1}));
    CHECK_FALSE(cache.find("decode.a", "/x.mp4", {100, 6, 1}));
    cache.put("decode.a", "/x.mp4", {101, 5, 1}, {sizeof(abi::Header), 0, 7, 1, 1, 25});  // replaces
    cache.save();
  }
  CHECK(HeaderCache(file).find("decode.a", "/x.mp4", {101, 5, 1})->frames == 7);
  CHECK_FALSE(HeaderCache(file).find("decode.a", "/x.mp4", state));
  CHECK(HeaderCache(file).find("decode.a", "/999", state));

  // Every cut and a flip in every byte of the head and of some records: counts as empty, never as a wrong header.
  std::string bytes;
  {
    std::ifstream in(file, std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(in), {});
  }
  for (std::size_t at = 0; at < bytes.size(); at += at < 200 ? 1 : 997) {
    for (const bool cut : {true, false}) {
      auto damaged = cut ? bytes.substr(0, at) : bytes;
      if (!cut) damaged[at] = static_cast<char>(damaged[at] ^ 4);
      std::ofstream(file, std::ios::binary | std::ios::trunc) << damaged;
      CHECK_FALSE(HeaderCache(file).find("decode.a", "/999", state));
    }
  }
}

TEST_CASE("a cache that cannot be written is no error") {
  HeaderCache cache("/proc/none/headers.bin");
  cache.put("decode.a", "/x", {1, 1, 1}, {sizeof(abi::Header), 0, 1, 1, 1, 25});
  CHECK_NOTHROW(cache.save());
}

TEST_CASE("what is no file is refused without opening it") {
  ScratchFolder folder;
  const auto path = [&](const char* name) { return (folder.path() / name).string(); };
  CHECK(look_at(path("missing")).problem == "No such file or directory");
  std::ofstream(path("empty")).flush();
  CHECK(look_at(path("empty")).problem == "the file is empty");
  REQUIRE(mkfifo(path("fifo").c_str(), 0600) == 0);
  CHECK(look_at(path("fifo")).problem == "it is a FIFO, not a file");
  std::filesystem::create_symlink("loop", path("loop"));
  CHECK(look_at(path("loop")).problem.find("symbolic links") != std::string::npos);
  CHECK(look_at("/dev/null").problem == "it is a device, not a file");
  CHECK(look_at(folder.path().string()).problem == "");  // a folder of frames
  CHECK(look_at(std::string("a\0b", 3)).problem != "");
  std::ofstream(path("file")) << "x";
  const auto before = look_at(path("file"));
  CHECK(before.problem == "");
  std::ofstream(path("file")) << "xy";
  CHECK(look_at(path("file")).state.fingerprint() != before.state.fingerprint());
}

TEST_CASE("work side by side: every number once, the error of one reaches the caller") {
  for (const std::int64_t workers : {1, 2, 3, 7}) {
    std::vector<std::atomic<int>> done(100);
    double last = 0;
    in_parallel(100, workers, [&](std::size_t i) { ++done[i]; }, [&](double fraction) { last = fraction; });
    for (const auto& count : done) CHECK(count == 1);
    CHECK(last == 1.0);
    CHECK_THROWS_WITH(in_parallel(100, workers, [](std::size_t i) { if (i == 50) throw std::runtime_error("fifty"); }, nullptr), "fifty");
  }
  in_parallel(0, 3, [](std::size_t) { FAIL("nothing to do"); }, nullptr);
}

TEST_CASE("times are kept for the files used last") {
  ScratchFolder folder;
  const Recipe decoder(decoder_descriptor<FakeDecoder>);
  TimesCache cache(2500);  // three files of 100 frames are 2,400 bytes
  std::vector<std::string> paths;
  for (int i = 0; i < 5; ++i) paths.push_back(write_video(folder.path() / (std::to_string(i) + ".vid"), {.frames = 100, .rate = 10}));
  const auto first = cache.get(decoder, 0, paths[0]);
  CHECK(first->at(10) == 1.0);
  for (std::uint32_t i = 0; i < 3; ++i) static_cast<void>(cache.get(decoder, i, paths[i]));
  CHECK(cache.get(decoder, 0, paths[0]) == first);
  for (std::uint32_t i = 1; i < 5; ++i) static_cast<void>(cache.get(decoder, i, paths[i]));
  CHECK(cache.get(decoder, 0, paths[0]) != first);
  std::filesystem::remove(paths[0]);
  CHECK_THROWS_AS(static_cast<void>(TimesCache(100).get(decoder, 0, paths[0])), Error);
}
