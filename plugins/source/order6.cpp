// source.order6: three coloured flashes in one of six orders, far apart in long videos, as real H.264 files made on first use.
#include <algorithm>
#include <filesystem>
#include <vector>

#include <sluice/source.hpp>

#include "generated_files.hpp"
#include "h264_file.hpp"
#include "order6_scene.hpp"

namespace {

using namespace sluice;

struct Order6 {
  Text root = "data/order6";
  std::int64_t train = 240;
  std::int64_t val = 60;
  std::int64_t size = 32;
  std::int64_t frames = 2000;
  std::int64_t flash = 8;
  std::int64_t rate = 25;
  std::int64_t seed = 6;
  std::int64_t gop = 50;
  std::int64_t quality = 16;

  static constexpr std::string_view help =
      "Three short coloured flashes in one of six orders, anywhere in a long video, written as H.264 files on first use. A few dozen frames, in a row or spread out, do not tell the order.";
  static constexpr auto fields = sluice::fields(
      field(&Order6::root, "root", "folder of the files; each set of the keys below has a folder of its own in it", path),
      field(&Order6::train, "train", "videos to train on; their classes take turns", range(0, 99999)),
      field(&Order6::val, "val", "videos to evaluate on", range(0, 99999)),
      field(&Order6::size, "size", "height and width in pixels, even", range(16, 1024)),
      field(&Order6::frames, "frames", "frames in a video", range(order6::least_frames, 100000)),
      field(&Order6::flash, "flash", "frames of a flash", range(1, 1000)),
      field(&Order6::rate, "rate", "frames a second", range(1, 1000)),
      field(&Order6::seed, "seed", "another number gives other videos; run.seed does not change them"),
      field(&Order6::gop, "gop", "frames from one keyframe to the next", range(1, 1000)),
      field(&Order6::quality, "quality", "H.264 quantizer: 0 is lossless, 51 is the worst", range(0, 51)));

  void check() const {
    if (size % 2 != 0) throw Error(Code::configuration, "size = " + std::to_string(size) + " is odd: 4:2:0 video has an even size", "take " + std::to_string(size + 1));
    if (flash > frames / 12) throw Error(Code::configuration, "flash = " + std::to_string(flash) + " is too long for six of them in " + std::to_string(frames) + " frames", "take at most " + std::to_string(frames / 12));
  }

  void list(Listing& listing) const {
    const std::int64_t settings[] = {size, frames, flash, rate, seed, gop, quality};
    const auto clips = generated::clips_of(train, val, order6::orders);
    generated::list_clips(listing, "order6", generated::folder_of(root.str(), size, frames, settings), clips, order6::orders,
                          [this](const std::filesystem::path& path, const generated::Clip& clip) { write_clip(path, clip); });
  }

 private:
  void write_clip(const std::filesystem::path& path, const generated::Clip& clip) const {
    const auto scene = order6::make_scene(static_cast<std::uint64_t>(seed), clip.validation, clip.index, size, frames, flash);
    const H264Settings settings{.width = size, .height = size, .rate = rate, .gop = gop, .quantizer = quality};
    order6::Planes planes;
    write_h264(path, settings, frames, [&](std::int64_t t, const FramePlanes& to) {
      order6::draw(scene, t, planes);
      const std::vector<std::uint8_t>* from[] = {&planes.luma, &planes.blue, &planes.red};
      for (std::size_t plane = 0; plane < 3; ++plane) {
        const auto width = plane == 0 ? size : size / 2;
        for (std::int64_t y = 0; y < width; ++y) std::copy_n(from[plane]->data() + y * width, width, to.data[plane] + y * to.stride[plane]);
      }
    });
  }
};
SLUICE_SOURCE(Order6, "source.order6");

}  // namespace
