// decode.frames: a folder of pictures as a video, in the natural order of their names.
#include <optional>
#include <string>
#include <vector>

#include <sluice/decoder.hpp>

#include <opencv2/imgcodecs.hpp>

#include "image_folder.hpp"
#include "image_size.hpp"
#include "input_file.hpp"
#include "requested_frames.hpp"
#include "scale_bgr.hpp"
#include "target_size.hpp"

namespace {

using namespace sluice::decode;

// Encoded bytes of a picture of that many pixels; what is larger is refused.
std::uint64_t most_encoded(std::int64_t height, std::int64_t width) { return static_cast<std::uint64_t>(height * width) * 4 + (1u << 20); }

// Upright, BGR.
cv::Mat read_picture(const std::string& path) {
  keep_opencv_on_this_thread();
  const InputFile file(path);
  std::vector<std::uint8_t> bytes(std::min<std::uint64_t>(file.identity().size, 1u << 20));
  bytes.resize(file.read(bytes.data(), bytes.size(), 0));
  const auto declared = image_size(bytes);
  if (!declared) throw sluice::Error(sluice::Code::data, file.name() + ": it is no JPEG, PNG or BMP picture", "look at it in an image viewer; convert it, or take it out of the folder");
  check_size(file.name(), declared->width, declared->height);
  if (file.identity().size > most_encoded(declared->height, declared->width))
    throw sluice::Error(sluice::Code::data, file.name() + ": " + std::to_string(file.identity().size) + " bytes for " + std::to_string(declared->width) + "x" + std::to_string(declared->height) + " pixels",
                        "save it again without what is attached to it");
  bytes.resize(file.identity().size);
  bytes.resize(file.read(bytes.data(), bytes.size(), 0));
  cv::Mat picture;
  try {
    picture = cv::imdecode(bytes, cv::IMREAD_COLOR);
  } catch (const cv::Exception& error) {
    throw sluice::Error(sluice::Code::data, file.name() + ": it cannot be decoded: " + error.err);
  }
  if (picture.empty()) throw sluice::Error(sluice::Code::data, file.name() + ": it cannot be decoded; it is cut off or damaged", "copy it again");
  return picture;
}

struct Frames {
  double rate = 25;
  std::optional<std::int64_t> short_side;
  std::vector<std::int64_t> size;

  static constexpr std::string_view help = "Reads a folder of .jpg, .png or .bmp pictures as a video: frame2.png before frame10.png.";
  static constexpr auto fields = sluice::fields(
      sluice::field(&Frames::rate, "rate", "pictures a second", sluice::range(0.001, 10000)),
      sluice::field(&Frames::short_side, "short_side", "scales: pixels of the shorter side, the other follows", sluice::range(1, max_side)),
      sluice::field(&Frames::size, "size", "scales: exactly [height, width], the aspect may change"));

  void check() const { check_target(short_side, size); }

  sluice::Header probe(const std::string& folder) const {
    const auto pictures = pictures_in(folder);
    const auto first = read_picture(pictures.front());
    return {static_cast<std::int64_t>(pictures.size()), first.cols, first.rows, rate, false};
  }

  std::vector<double> times(const std::string& folder) const {
    std::vector<double> seconds(pictures_in(folder).size());
    for (std::size_t k = 0; k < seconds.size(); ++k) seconds[k] = static_cast<double>(k) / rate;
    return seconds;
  }

  sluice::Info out(const sluice::Info& in) const {
    auto info = in;
    const Size from{in.shape[1], in.shape[2]}, shown = target_size(from, short_side, size);
    info.shape[1] = shown.height;
    info.shape[2] = shown.width;
    // The encoded bytes; the pixels, twice where EXIF turns them; what a progressive JPEG keeps until its end; names.
    const auto pixels = static_cast<std::uint64_t>((from.height + 16) * (from.width + 16));
    info.scratch = most_encoded(from.height, from.width) + 12 * pixels + scale_bytes(from, shown) + (std::uint64_t{2} << 20);
    return info;
  }

  sluice::Clip operator()(const sluice::FrameRequest& request, sluice::Memory memory) const {
    const auto pictures = pictures_in(request.path);
    const auto wanted = each_once(request.frames, static_cast<std::int64_t>(pictures.size()), printable(request.path));
    for (std::size_t i = 0; i < request.frames.size(); ++i) request.times[i] = static_cast<double>(request.frames[i]) / rate;

    const auto first = read_picture(pictures.front());  // its size is that of the video
    const Size native{first.rows, first.cols}, shown = target_size(native, short_side, size);
    sluice::Clip clip(memory.array(sluice::DType::u8, {static_cast<std::int64_t>(request.frames.size()), shown.height, shown.width, 3}, "THWC"), memory);
    clip.set_rate(rate);
    for (const auto number : wanted) {
      const auto& path = pictures[static_cast<std::size_t>(number)];
      const auto picture = number == 0 ? first : read_picture(path);
      if (picture.rows != native.height || picture.cols != native.width)
        throw sluice::Error(sluice::Code::data,
                            printable(path) + ": it is " + std::to_string(picture.cols) + "x" + std::to_string(picture.rows) + ", and the first picture of the folder " +
                                std::to_string(native.width) + "x" + std::to_string(native.height),
                            "bring all pictures of a folder to one size");
      place_frame(clip, request.frames, number, [&](std::uint8_t* to) { scale_bgr(picture, shown, to); });
    }
    return clip;
  }
};
SLUICE_DECODER(Frames, "decode.frames");

}  // namespace
