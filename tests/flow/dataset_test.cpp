// The dataset: listing, headers, pieces, views, and every way in which an entry cannot be used.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <map>
#include <set>

#include "framework/memory/process.hpp"
#include "tests/support/fake_videos.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

// A listing of these files, label = position, origin = list:line.
std::function<void(Listing&)> files(std::vector<std::string> paths, Split split = Split::train) {
  return [=](Listing& listing) {
    listing.classes({"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"});
    for (std::size_t i = 0; i < paths.size(); ++i)
      listing.add({.split = split, .label = static_cast<std::int64_t>(i), .streams = {{"clip", paths[i]}}, .origin = "list:" + std::to_string(i + 1)});
  };
}

}  // namespace

TEST_CASE("videos reach the trainer as the frames that the sampler chose") {
  ScratchFolder folder;
  std::vector<std::string> paths;
  for (int i = 0; i < 6; ++i) paths.push_back(write_video(folder.path() / (std::to_string(i) + ".vid"), {.frames = 20 + i, .width = 8 + i, .height = 6}));
  Bench bench(files(paths));
  bench.frames<FakeFrames>();
  bench.decoder<FakeDecoder>();
  CHECK(bench.dataset().samples(Split::train) == 6);
  CHECK(bench.dataset().samples(Split::val) == 0);
  CHECK(bench.dataset().label(Split::train, 4) == 4);
  CHECK(bench.dataset().texts(Split::train, 2) == std::vector<std::pair<std::string, std::string>>{{"clip", paths[2]}, {"label", "two"}, {"origin", "list:3"}});
  std::set<std::int64_t> starts;
  for (std::uint64_t epoch = 0; epoch < 5; ++epoch) {
    const Run run = bench.run({.workers = 2, .batch_size = 2}, {{Phase::Kind::train, epoch, 0}}, 0, [&](Feed&, const Batch& batch) {
      for (const auto& sample : batch.samples) {
        REQUIRE(sample.arrays.size() == 2);
        const auto& clip = sample.arrays[0].second;
        CHECK(sample.arrays[0].first == "clip");
        CHECK(clip.shape() == Shape{4, 6, 8 + sample.index, 3});
        CHECK(clip.rate() == 25);
        CHECK(sample.arrays[1].second.values<std::int64_t>()[0] == sample.index);
        // Which frame was it? Then the others follow.
        const auto size = 6 * (8 + sample.index) * 3;
        const auto& path = paths[static_cast<std::size_t>(sample.index)];
        std::int64_t start = -1;
        for (std::int64_t f = 0; f < 20 + sample.index && start < 0; ++f)
          if (clip.data()[0] == FakeDecoder::pixel(path, f, 0) && clip.data()[5] == FakeDecoder::pixel(path, f, 5)) start = f;
        REQUIRE(start >= 0);
        for (std::int64_t t = 0; t < 4; ++t)
          for (std::int64_t i = 0; i < size; ++i) REQUIRE(clip.data()[t * size + i] == FakeDecoder::pixel(path, start + t, i));
        starts.insert(start);
      }
    });
    CHECK(run.error == "");
    CHECK(run.finished == 6);
  }
  CHECK(starts.size() > 5);
}

TEST_CASE("headers are read once, side by side, and come from the cache the second time") {
  ScratchFolder folder;
  std::vector<std::string> paths;
  for (int i = 0; i < 50; ++i) paths.push_back(write_video(folder.path() / (std::to_string(i) + ".vid"), {.frames = 10 + i}));
  std::atomic<int> probes{0};
  std::vector<double> progress;
  const auto open = [&](int repeat) {
    std::vector<std::string> all;
    for (int i = 0; i < repeat; ++i) all.insert(all.end(), paths.begin(), paths.end());
    Bench bench([=](Listing& listing) {
      for (const auto& path : all) listing.add({.streams = {{"clip", path}}});
    });
    bench.options.cache_dir = folder.path() / "cache";
    bench.options.workers = 3;
    bench.options.progress = [&](const std::string& what, double fraction) {
      CHECK(what == "reading headers");
      progress.push_back(fraction);
    };
    bench.frames<FakeFrames>();
    bench.decoder<FakeDecoder>().probes = &probes;
    return bench.dataset().samples(Split::train);
  };
  CHECK(open(3) == 150);
  CHECK(probes == 50);
  CHECK(progress.back() == 1.0);
  CHECK(open(1) == 50);
  CHECK(probes == 50);
  write_video(paths[7], {.frames = 1000});
  CHECK(open(1) == 50);
  CHECK(probes == 51);
}

TEST_CASE("files that cannot be used are listed with their reason, and the others go on") {
  ScratchFolder folder;
  const auto at = [&](const char* name) { return (folder.path() / name).string(); };
  std::ofstream(at("text.vid")) << "hello";
  std::ofstream(at("empty.vid")).flush();
  const auto good = write_video(folder.path() / "good.vid", {});
  Bench bench(files({at("missing.vid"), good, at("text.vid"), at("empty.vid"), write_video(folder.path() / "none.vid", {.frames = 0}),
                     write_video(folder.path() / "huge.vid", {.width = 100000}), write_video(folder.path() / "rate.vid", {.rate = -1})}));
  bench.frames<FakeFrames>();
  bench.decoder<FakeDecoder>();
  CHECK(bench.dataset().samples(Split::train) == 1);
  CHECK(bench.dataset().label(Split::train, 0) == 1);
  std::map<std::string, std::string> why;
  for (const auto& failed : bench.dataset().failed()) {
    why[failed.where] = failed.why;
    CHECK(failed.sample == -1);
  }
  CHECK(why["list:1"] == "'" + at("missing.vid") + "': No such file or directory");
  CHECK(why["list:3"] == "'" + at("text.vid") + "': it is no video");
  CHECK(why["list:4"] == "'" + at("empty.vid") + "': the file is empty");
  CHECK(why["list:5"] == "'" + at("none.vid") + "': its header says 0 frames");
  CHECK(why["list:6"] == "'" + at("huge.vid") + "': its header says 100000 x 8 pixels");
  CHECK(why["list:7"] == "'" + at("rate.vid") + "': its header says -1 frames a second");
  CHECK(why.size() == 6);
}

TEST_CASE("a decoder that breaks while it reads headers ends the run") {
  ScratchFolder folder;
  std::ofstream(folder.path() / "a.vid") << "plugin 1";
  Bench bench(files({(folder.path() / "a.vid").string()}));
  bench.frames<FakeFrames>();
  bench.decoder<FakeDecoder>();
  CHECK_THROWS_WITH_AS(static_cast<void>(bench.dataset()), doctest::Contains("the decoder is broken"), Error);
}

TEST_CASE("labels outside the classes, entries without a stream, entries the source rejects") {
  Bench bench([](Listing& listing) {
    listing.classes({"a", "b"});
    listing.add({.label = 1, .streams = {{"text0", "x"}}, .origin = "list:1"});
    listing.add({.label = 2, .streams = {{"text0", "x"}}, .origin = "list:2"});
    listing.add({.label = 0, .streams = {{"text1", "x"}}, .origin = "list:3"});
    listing.add({.label = -1, .streams = {{"text0", "x"}}, .origin = "list:4"});
    listing.reject("list:5", "a comma is missing");
  });
  bench.fake({"text0", "label"}, {"a"});
  CHECK(bench.dataset().samples(Split::train) == 2);
  std::map<std::string, std::string> why;
  for (const auto& failed : bench.dataset().failed()) why[failed.where] = failed.why;
  CHECK(why["list:2"] == "its label is 2, and the classes are 0 to 1");
  CHECK(why["list:3"] == "it has no 'text0'");
  CHECK(why["list:5"] == "a comma is missing");
  CHECK(bench.dataset().label(Split::train, 1) == -1);
  bench.run({.batch_size = 2, .shuffle = false}, {Phase{}}, 0, [](Feed&, const Batch& batch) {
    CHECK(batch.samples.at(1).arrays.at(1).first == "label");
    CHECK(batch.samples[1].arrays[1].second.values<std::int64_t>()[0] == -1);
  });
}

TEST_CASE("an empty listing, and a source that throws") {
  Bench empty([](Listing&) {});
  CHECK_THROWS_WITH_AS(static_cast<void>(empty.dataset()), doctest::Contains("the source lists no samples"), Error);
  Bench rejected([](Listing& listing) { listing.reject("list:1", "nonsense"); });
  CHECK_THROWS_WITH_AS(static_cast<void>(rejected.dataset()), doctest::Contains("list:1: nonsense"), Error);
  Bench thrower([](Listing&) { throw Error(Code::io, "no such folder"); });
  CHECK_THROWS_WITH_AS(static_cast<void>(thrower.dataset()), doctest::Contains("no such folder"), Error);
  Bench wrong([](Listing& listing) { listing.add({.label = -5, .streams = {{"clip", "x"}}}); });
  CHECK_THROWS_AS(static_cast<void>(wrong.dataset()), Error);
}

TEST_CASE("streams that the source does not give are errors of the pipeline, with a place") {
  Bench bench([](Listing& listing) { listing.add({.streams = {{"front", "x"}}}); });
  bench.fake({"clip"}, {"a"});
  CHECK_THROWS_WITH_AS(static_cast<void>(bench.dataset()), doctest::Contains("p.toml:10:1: stage fake.stage reads the stream 'clip', which nobody writes"), Error);
}

TEST_CASE("evaluation takes several views of each video, side by side") {
  ScratchFolder folder;
  const auto a = write_video(folder.path() / "a.vid", {.frames = 101}), b = write_video(folder.path() / "b.vid", {.frames = 201});
  for (const bool own : {false, true}) {
    Bench bench(files({a, b}, Split::val));
    bench.options.eval_clips = own ? 7 : 3;
    bench.frames<FakeFrames>().wanted = 1;
    if (own) static_cast<FakeFrames*>(bench.stages().items[0].recipe.instance())->own_views = 3;
    bench.decoder<FakeDecoder>();
    CHECK(bench.dataset().samples(Split::val) == 6);
    CHECK(bench.dataset().videos(Split::val) == 2);
    CHECK(bench.dataset().views(Split::val) == 3);
    CHECK(bench.dataset().views(Split::train) == 1);
    std::vector<std::uint8_t> first;
    bench.run({.eval_batch_size = 4}, {{Phase::Kind::eval, 0, 0}}, 0, [&](Feed&, const Batch& batch) {
      for (const auto& sample : batch.samples) first.push_back(sample.arrays.at(0).second.data()[0]);
    });
    std::vector<std::uint8_t> expected;
    for (const auto frame : {0, 50, 100}) expected.push_back(FakeDecoder::pixel(a, frame, 0));
    for (const auto frame : {0, 100, 200}) expected.push_back(FakeDecoder::pixel(b, frame, 0));
    CHECK(first == expected);
  }
}

TEST_CASE("pieces of long videos, also where the rate varies") {
  ScratchFolder folder;
  const auto even = write_video(folder.path() / "a.vid", {.frames = 100, .rate = 10});
  std::vector<double> times;
  for (int i = 0; i < 100; ++i) times.push_back(100 + (i < 50 ? i * 0.1 : 5 + (i - 50) * 1.0));  // begins at 100 s, slows down after 5 s
  const auto uneven = write_video(folder.path() / "b.vid", {.frames = 100, .rate = 3, .times = times});
  Bench bench([=](Listing& listing) {
    for (const auto& path : {even, uneven}) {
      listing.add({.split = Split::val, .streams = {{"clip", path}}, .unit = Unit::seconds, .start = 4, .end = 8, .origin = path});
      listing.add({.split = Split::val, .streams = {{"clip", path}}, .unit = Unit::frames, .start = 90, .end = 200, .origin = path});
      listing.add({.split = Split::val, .streams = {{"clip", path}}, .unit = Unit::fraction, .start = 0.5, .end = 0.5, .origin = path});
    }
  });
  bench.frames<FakeFrames>().wanted = 1000;  // all of the piece
  bench.decoder<FakeDecoder>();
  CHECK(bench.dataset().samples(Split::val) == 4);
  CHECK(bench.dataset().failed().size() == 2);
  std::vector<std::int64_t> lengths;
  std::vector<std::uint8_t> first;
  bench.run({.eval_batch_size = 10}, {{Phase::Kind::eval, 0, 0}}, 0, [&](Feed&, const Batch& batch) {
    for (const auto& sample : batch.samples) {
      lengths.push_back(sample.arrays.at(0).second.extent(0));
      first.push_back(sample.arrays[0].second.data()[0]);
    }
  });
  CHECK(lengths == std::vector<std::int64_t>{40, 10, 13, 10});  // uneven: 4.0 to 4.9 in tenths, then 5, 6, 7
  CHECK(first == std::vector<std::uint8_t>{FakeDecoder::pixel(even, 40, 0), FakeDecoder::pixel(even, 90, 0), FakeDecoder::pixel(uneven, 40, 0), FakeDecoder::pixel(uneven, 90, 0)});
}

TEST_CASE("a sampler that wants the times gets them, counted from the start of the piece") {
  ScratchFolder folder;
  std::vector<double> times;
  for (int i = 0; i < 30; ++i) times.push_back(7 + i * i * 0.01);
  const auto path = write_video(folder.path() / "a.vid", {.frames = 30, .rate = 3, .times = times});
  Bench bench([=](Listing& listing) {
    listing.add({.split = Split::val, .streams = {{"clip", path}}});
    listing.add({.split = Split::val, .streams = {{"clip", path}}, .unit = Unit::frames, .start = 10, .end = 25});
  });
  bench.frames<FakeByTime>();
  bench.decoder<FakeDecoder>();
  std::vector<std::vector<std::uint8_t>> frames;
  bench.run({.eval_batch_size = 10}, {{Phase::Kind::eval, 0, 0}}, 0, [&](Feed&, const Batch& batch) {
    for (const auto& sample : batch.samples) {
      const auto& clip = sample.arrays.at(0).second;
      frames.emplace_back();
      for (std::int64_t t = 0; t < clip.extent(0); ++t) frames.back().push_back(clip.data()[t * 16 * 8 * 3]);
    }
  });
  // Naive: the first frame at or behind each whole second from the piece's own start.
  for (std::size_t piece = 0; piece < 2; ++piece) {
    const int begin = piece ? 10 : 0, end = piece ? 25 : 30;
    std::vector<std::uint8_t> expected;
    for (int second = 0, f = begin; second <= static_cast<int>(times[static_cast<std::size_t>(end - 1)] - times[static_cast<std::size_t>(begin)]); ++second, ++f) {
      while (times[static_cast<std::size_t>(f)] - times[static_cast<std::size_t>(begin)] < second) ++f;
      expected.push_back(FakeDecoder::pixel(path, f, 0));
    }
    CHECK(frames.at(piece) == expected);
  }
}

TEST_CASE("a file that is replaced during the run is a tombstone that says so") {
  // Catches: frames of another size than the lease was taken for, blamed on the decoder.
  ScratchFolder folder;
  std::vector<std::string> paths;
  for (int i = 0; i < 4; ++i) paths.push_back(write_video(folder.path() / (std::to_string(i) + ".vid"), {}));
  Bench bench(files(paths));
  bench.frames<FakeFrames>();
  bench.decoder<FakeDecoder>();
  static_cast<void>(bench.dataset());
  write_video(paths[1], {.width = 500, .height = 500});
  std::filesystem::remove(paths[2]);
  const Run run = bench.run({.batch_size = 4, .shuffle = false}, {Phase{}});
  CHECK(run.error == "");
  CHECK(run.finished == 2);
  REQUIRE(run.failures.size() == 2);
  CHECK(run.failures[0].why.find("the file was replaced after its header had been read") == 0);
  CHECK(run.failures[0].where.find("sample 1 of train (list:2: ") != std::string::npos);
  CHECK(run.failures[1].why == "No such file or directory");
}

TEST_CASE("a million entries open in little memory") {
  const auto before = resident_bytes();
  Bench bench([](Listing& listing) {
    for (int i = 0; i < 1000000; ++i) listing.add({.label = i % 400, .streams = {{"text0", "/data/class_" + std::to_string(i % 400) + "/" + std::to_string(i) + ".mp4"}}, .origin = "list.csv:" + std::to_string(i)});
  });
  bench.fake({"text0"}, {"a"});
  CHECK(bench.dataset().samples(Split::train) == 1000000);
  CHECK(resident_bytes() - before < 100u << 20);
  CHECK(bench.dataset().texts(Split::train, 999999)[0].second == "/data/class_399/999999.mp4");
}
