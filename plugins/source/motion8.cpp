// source.motion8: eight directions of a moving patch over a moving background, as real H.264 files made on first use.
#include <algorithm>
#include <filesystem>
#include <vector>

#include <sluice/source.hpp>

#include "generated_files.hpp"
#include "h264_file.hpp"
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
    const std::int64_t settings[] = {size, frames, rate, seed, gop, quality};
    const auto clips = generated::clips_of(train, val, motion8::directions);
    generated::list_clips(listing, "motion8", generated::folder_of(root.str(), size, frames, settings), clips, motion8::directions,
                          [this](const std::filesystem::path& path, const generated::Clip& clip) { write_clip(path, clip); });
  }

 private:
  void write_clip(const std::filesystem::path& path, const generated::Clip& clip) const {
    const auto scene = motion8::make_scene(static_cast<std::uint64_t>(seed), clip.validation, clip.index, size);
    const H264Settings settings{.width = size, .height = size, .rate = rate, .gop = gop, .quantizer = quality};
    motion8::Planes planes;
    write_h264(path, settings, frames, [&](std::int64_t t, const FramePlanes& to) {
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
