// source.motion8: eight directions of a moving patch over a moving background, as real H.264 files made on first use.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <mutex>
#include <thread>

#include <sluice/rng.hpp>
#include <sluice/source.hpp>

#include "h264_file.hpp"
#include "motion8_files.hpp"
#include "motion8_scene.hpp"

namespace {

using namespace sluice;

struct Motion8 {
  Text root = "data/motion8";
  std::int64_t train = 1600;
  std::int64_t val = 400;
  std::int64_t size = 64;
  std::int64_t frames = 24;
  std::int64_t rate = 25;
  std::int64_t seed = 8;
  std::int64_t gop = 12;
  std::int64_t quality = 10;

  static constexpr std::string_view help =
      "Eight directions of a moving patch over a moving background, written as H.264 files on first use. One frame alone says nothing about the direction.";
  static constexpr auto fields = sluice::fields(
      field(&Motion8::root, "root", "folder of the files; each set of the keys below has a folder of its own in it", path),
      field(&Motion8::train, "train", "clips to train on; their classes take turns", range(0, 99999)),
      field(&Motion8::val, "val", "clips to evaluate on", range(0, 99999)),
      field(&Motion8::size, "size", "height and width in pixels, even", range(16, 1024)),
      field(&Motion8::frames, "frames", "frames in a file", range(1, 10000)),
      field(&Motion8::rate, "rate", "frames a second", range(1, 1000)),
      field(&Motion8::seed, "seed", "another number gives other clips; run.seed does not change them"),
      field(&Motion8::gop, "gop", "frames from one keyframe to the next", range(1, 1000)),
      field(&Motion8::quality, "quality", "H.264 quantizer: 0 is lossless and has no B frames, 10 differs by half a grey level, 51 is the worst", range(0, 51)));

  void check() const {
    if (size % 2 != 0) throw Error(Code::configuration, "size = " + std::to_string(size) + " is odd: 4:2:0 video has an even size", "take " + std::to_string(size + 1));
  }

  void list(Listing& listing) const {
    const auto folder = this->folder();
    const auto clips = motion8::clips_of(train, val);
    if (!motion8::missing_of(folder, clips).empty()) make(folder, clips, listing);

    listing.classes({motion8::directions.begin(), motion8::directions.end()});
    for (const auto& clip : clips) {
      const auto file = (folder / clip.name).string();
      listing.add({.split = clip.validation ? Split::val : Split::train, .label = static_cast<std::int64_t>(clip.index % motion8::directions.size()),
                   .streams = {{"clip", file}}, .origin = file});
    }
  }

 private:
  // Named after all that the bytes of a clip follow from; how many clips there are is not among it.
  [[nodiscard]] std::filesystem::path folder() const {
    constexpr std::uint64_t version = 1;  // of the scenes and the encoder's settings
    std::uint64_t hash = version;
    for (const auto value : {size, frames, rate, seed, gop, quality}) hash = mix_bits(hash ^ static_cast<std::uint64_t>(value));
    char name[64];
    std::snprintf(name, sizeof name, "%lldx%lld-%08llx", static_cast<long long>(size), static_cast<long long>(frames), static_cast<unsigned long long>(hash >> 32));
    return std::filesystem::path(root.str()) / name;
  }

  void make(const std::filesystem::path& folder, const std::vector<motion8::Clip>& clips, const Listing& listing) const {
    for (const auto* split : {"train", "val"})
      for (const auto direction : motion8::directions) {
        std::error_code error;
        std::filesystem::create_directories(folder / split / direction, error);
        if (error) throw Error(Code::io, "cannot make the folder " + (folder / split / direction).string() + ": " + error.message(), "set root to a folder that can be written");
      }
    const motion8::FolderLock lock(folder, [&] { listing.progress("motion8: waiting for another process that makes these clips", 0); });
    const auto missing = motion8::missing_of(folder, clips);  // again: the other process may have made them
    std::atomic<std::size_t> next = 0;
    std::atomic<bool> stop = false;
    std::exception_ptr failed;
    std::mutex failed_mutex;
    const auto work = [&](bool reports) {
      try {
        motion8::Planes planes;
        for (std::size_t n; !stop && (n = next++) < missing.size();) {
          if (reports) listing.progress("motion8: rendering " + std::to_string(missing.size()) + " clips", static_cast<double>(n) / static_cast<double>(missing.size()));
          write_clip(folder, clips[missing[n]], planes);
        }
      } catch (...) {
        stop = true;
        const std::lock_guard guard(failed_mutex);
        if (!failed) failed = std::current_exception();
      }
    };
    {
      const auto threads = std::clamp<std::size_t>(listing.context().workers(), 1, missing.size() / 8 + 1);
      std::vector<std::jthread> helpers;
      for (std::size_t i = 1; i < threads; ++i) helpers.emplace_back(work, false);
      work(true);
    }
    if (failed) std::rethrow_exception(failed);
    motion8::record(folder, clips);
  }

  void write_clip(const std::filesystem::path& folder, const motion8::Clip& clip, motion8::Planes& planes) const {
    const auto scene = motion8::make_scene(static_cast<std::uint64_t>(seed), clip.validation, clip.index, size);
    const H264Settings settings{.width = size, .height = size, .rate = rate, .gop = gop, .quantizer = quality};
    write_h264(folder / clip.name, settings, frames, [&](std::int64_t t, const FramePlanes& to) {
      motion8::draw(scene, t, planes);
      const std::vector<std::uint8_t>* from[] = {&planes.luma, &planes.blue, &planes.red};
      for (std::size_t plane = 0; plane < 3; ++plane) {
        const auto width = plane == 0 ? size : size / 2;
        for (std::int64_t y = 0; y < width; ++y) std::copy_n(from[plane]->data() + y * width, width, to.data[plane] + y * to.stride[plane]);
      }
    });
  }
};
SLUICE_SOURCE(Motion8, "source.motion8");

}  // namespace
