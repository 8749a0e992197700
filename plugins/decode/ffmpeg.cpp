// decode.ffmpeg: exactly the frames asked for, through the FFmpeg libraries, with one thread.
#include <optional>
#include <string>
#include <vector>

#include <sluice/decoder.hpp>

#include "frame_reader.hpp"
#include "index_store.hpp"
#include "picture.hpp"
#include "requested_frames.hpp"
#include "target_size.hpp"
#include "working_set.hpp"

namespace {

using namespace sluice::decode;

// One for the process: training and evaluation read the same files.
IndexStore& indices() {
  static IndexStore store(std::uint64_t{8} << 20);
  return store;
}

struct Ffmpeg {
  std::optional<std::int64_t> short_side;
  std::vector<std::int64_t> size;
  double headroom = 1.0;

  static constexpr std::string_view help =
      "Decodes exactly the frames asked for, with one thread a clip: an index of each file, made once, says where to start and what can be skipped.";
  static constexpr auto fields = sluice::fields(
      sluice::field(&Ffmpeg::short_side, "short_side", "scales while converting: pixels of the shorter side, the other follows; cheaper than a resize after it", sluice::range(1, max_side)),
      sluice::field(&Ffmpeg::size, "size", "scales while converting: exactly [height, width], the aspect may change"),
      sluice::field(&Ffmpeg::headroom, "headroom", "times the memory that is set aside for a decoder, for streams with an unusual number of reference frames", sluice::range(1.0, 16.0)));

  void check() const { check_target(short_side, size); }
  void prepare(const sluice::Context& context) { cache_ = context.cache_dir(); }

  sluice::Header probe(const std::string& path) const {
    const InputFile file(path);
    const auto index = indices().find(file, cache_);
    const auto reserved = reserve(index->shown_height(), index->shown_width());
    if (index->working_set > reserved)
      throw sluice::Error(sluice::Code::data,
                          file.name() + ": decoding it takes up to " + std::to_string(index->working_set >> 10) + " KiB, more than the " +
                              std::to_string(reserved >> 10) + " KiB set aside for pictures of its size",
                          "set headroom = " + std::to_string(index->working_set / ordinary_working_set(index->shown_height(), index->shown_width()) + 1) + " for decode.ffmpeg, or encode it with fewer reference frames");
    return {index->frame_count(), index->shown_width(), index->shown_height(), index->rate, index->variable_rate};
  }

  std::vector<double> times(const std::string& path) const {
    const auto index = indices().find(InputFile(path), cache_);
    std::vector<double> seconds(static_cast<std::size_t>(index->frame_count()));
    for (std::size_t k = 0; k < seconds.size(); ++k) seconds[k] = index->seconds(static_cast<std::int64_t>(k));
    return seconds;
  }

  sluice::Info out(const sluice::Info& in) const {
    auto info = in;
    const auto shown = target_size({in.shape[1], in.shape[2]}, short_side, size);
    info.shape[1] = shown.height;
    info.shape[2] = shown.width;
    info.scratch = reserve(in.shape[1], in.shape[2]) + conversion_bytes(in.shape[1], in.shape[2], shown);
    return info;
  }

  sluice::Clip operator()(const sluice::FrameRequest& request, sluice::Memory memory) const {
    const InputFile file(request.path);
    const auto index = indices().find(file, cache_);
    const auto frames = each_once(request.frames, index->frame_count(), file.name());
    const Size shown = target_size({index->shown_height(), index->shown_width()}, short_side, size);
    sluice::Clip clip(memory.array(sluice::DType::u8, {static_cast<std::int64_t>(request.frames.size()), shown.height, shown.width, 3}, "THWC"), memory);
    clip.set_rate(index->rate);
    for (std::size_t i = 0; i < request.frames.size(); ++i) request.times[i] = index->seconds(request.frames[i]);

    Picture picture(index->orientation, shown);
    FrameReader reader(file, *index);
    reader.read(frames, [&](std::int64_t number, const AVFrame& frame) {
      place_frame(clip, request.frames, number, [&](std::uint8_t* to) { picture.convert(frame, to); });
    });
    file.check_unchanged();
    return clip;
  }

 private:
  [[nodiscard]] std::uint64_t reserve(std::int64_t height, std::int64_t width) const {
    return static_cast<std::uint64_t>(headroom * static_cast<double>(ordinary_working_set(height, width)));
  }

  std::string cache_;
};
SLUICE_DECODER(Ffmpeg, "decode.ffmpeg");

}  // namespace
