// decode.opencv: the second decoder, OpenCV's VideoCapture from the first frame on, without seeking: what it lacks in speed it
// has in being somebody else's.
#include <cmath>
#include <cstring>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <sluice/decoder.hpp>

#include <opencv2/videoio.hpp>

#include "container.hpp"
#include "input_file.hpp"
#include "orientation.hpp"
#include "requested_frames.hpp"
#include "scale_bgr.hpp"
#include "target_size.hpp"
#include "working_set.hpp"

namespace {

using namespace sluice::decode;

// OpenCV 4.6 gives each capture as many decoding threads as the machine has processors, and no setting changes it: so there
// is one capture at a time, whatever the number of workers.
std::mutex& only_capture() {
  static std::mutex mutex;
  return mutex;
}

Orientation orientation_in(const InputFile& file) {
  Container container(file);
  const auto* side = av_stream_get_side_data(&container.video(), AV_PKT_DATA_DISPLAYMATRIX, nullptr);
  if (!side) return {};
  std::int32_t matrix[9];
  std::memcpy(matrix, side, sizeof matrix);
  return orientation_of(matrix);
}

class Capture {
 public:
  explicit Capture(const InputFile& file) : alone_(only_capture()), name_(file.name()), turn_(orientation_in(file)) {
    keep_opencv_on_this_thread();
    LogScope quiet;
    try {
      capture_.open(file.path(), cv::CAP_FFMPEG);
    } catch (const cv::Exception&) {
    }
    // It turns pictures the wrong way where FFmpeg 5 tells it the angle.
    capture_.set(cv::CAP_PROP_ORIENTATION_AUTO, 0);
    if (!capture_.isOpened()) throw sluice::Error(sluice::Code::data, name_ + ": OpenCV cannot open it as a video", "play it with ffplay; decode.ffmpeg may say more");
    check_size(name_, width(), height());
  }

  [[nodiscard]] std::int64_t width() const { return whole(cv::CAP_PROP_FRAME_WIDTH); }
  [[nodiscard]] std::int64_t height() const { return whole(cv::CAP_PROP_FRAME_HEIGHT); }
  [[nodiscard]] std::int64_t promised() const { return whole(cv::CAP_PROP_FRAME_COUNT); }
  [[nodiscard]] double rate() const { return std::max(0.0, capture_.get(cv::CAP_PROP_FPS)); }

  // Goes on to the next frame; false at the end of what can be read.
  bool next() {
    LogScope quiet;
    if (!capture_.grab()) return false;
    seconds_ = capture_.get(cv::CAP_PROP_POS_MSEC) / 1000;
    return true;
  }
  [[nodiscard]] double seconds() const { return seconds_; }
  cv::Mat picture() {
    LogScope quiet;
    cv::Mat picture;
    if (!capture_.retrieve(picture) || picture.type() != CV_8UC3) throw sluice::Error(sluice::Code::data, name_ + ": OpenCV gives no picture for a frame");
    if (turn_.identity()) return picture;
    cv::Mat upright = turn_.transpose ? cv::Mat(picture.cols, picture.rows, CV_8UC3) : cv::Mat(picture.rows, picture.cols, CV_8UC3);
    orient<3>(turn_, picture.data, static_cast<std::ptrdiff_t>(picture.step), picture.rows, picture.cols, upright.data, static_cast<std::ptrdiff_t>(upright.step));
    return upright;
  }

 private:
  [[nodiscard]] std::int64_t whole(int property) const {
    const double value = capture_.get(property);
    return std::isfinite(value) && value > 0 && value < 1e12 ? static_cast<std::int64_t>(value) : 0;
  }

  std::lock_guard<std::mutex> alone_;
  std::string name_;
  Orientation turn_;
  cv::VideoCapture capture_;
  double seconds_ = 0;
};

struct Seen {
  Size size;
  double rate = 0;
  bool variable = false;
  std::vector<double> times;
};

// The whole file once: what OpenCV says about the number of frames is a guess.
Seen look_through(const std::string& path) {
  const InputFile file(path);
  Capture capture(file);
  Seen seen;
  while (capture.next()) {
    if (seen.times.empty()) {
      const auto first = capture.picture();
      seen.size = {first.rows, first.cols};
    }
    seen.times.push_back(capture.seconds());
  }
  const auto count = static_cast<std::int64_t>(seen.times.size());
  const auto promised = capture.promised();
  if (count == 0) throw sluice::Error(sluice::Code::data, file.name() + ": no frame of it can be decoded", "play it with ffplay; if it was copied or downloaded, do so again");
  // For files that do not state it OpenCV multiplies duration and rate: a few frames more than there are is no proof.
  if (promised - count > 1 + promised / 50)
    throw sluice::Error(sluice::Code::data, file.name() + ": its head promises " + std::to_string(promised) + " frames and " + std::to_string(count) + " came; it was cut off, or is damaged",
                        "copy it again, or keep what is there: ffmpeg -i IN -c copy OUT");
  const double start = seen.times.front(), span = seen.times.back() - start;
  const double mean = count > 1 && span > 0 ? static_cast<double>(count - 1) / span : 0;
  bool increasing = true;
  for (std::size_t k = 1; k < seen.times.size(); ++k) increasing = increasing && seen.times[k] > seen.times[k - 1];
  seen.rate = capture.rate() > 0 ? capture.rate() : mean;
  for (std::size_t k = 0; k < seen.times.size(); ++k) {
    seen.times[k] = increasing ? seen.times[k] - start : seen.rate > 0 ? static_cast<double>(k) / seen.rate : 0;
    seen.variable = seen.variable || (seen.rate > 0 && std::abs(seen.times[k] - static_cast<double>(k) / seen.rate) > 0.5 / seen.rate);
  }
  if (seen.variable) seen.rate = mean;
  file.check_unchanged();
  return seen;
}

struct Opencv {
  std::optional<std::int64_t> short_side;
  std::vector<std::int64_t> size;

  static constexpr std::string_view help = "Decodes with OpenCV's VideoCapture, one file at a time and from its first frame on: a second opinion, and slow. decode.ffmpeg is the one to use.";
  static constexpr std::uint32_t threads = 16;  // at most, of the one capture: one for each processor
  static constexpr auto fields = sluice::fields(
      sluice::field(&Opencv::short_side, "short_side", "scales: pixels of the shorter side, the other follows", sluice::range(1, max_side)),
      sluice::field(&Opencv::size, "size", "scales: exactly [height, width], the aspect may change"));

  void check() const { check_target(short_side, size); }

  sluice::Header probe(const std::string& path) const {
    const auto seen = look_through(path);
    return {static_cast<std::int64_t>(seen.times.size()), seen.size.width, seen.size.height, seen.rate, seen.variable};
  }

  std::vector<double> times(const std::string& path) const { return look_through(path).times; }

  sluice::Info out(const sluice::Info& in) const {
    auto info = in;
    const Size from{in.shape[1], in.shape[2]}, shown = target_size(from, short_side, size);
    info.shape[1] = shown.height;
    info.shape[2] = shown.width;
    info.scratch = ordinary_working_set(from.height, from.width) + conversion_bytes(from.height, from.width, from) + 2 * 3 * static_cast<std::uint64_t>(from.height * from.width) + scale_bytes(from, shown);
    return info;
  }

  sluice::Clip operator()(const sluice::FrameRequest& request, sluice::Memory memory) const {
    const InputFile file(request.path);
    Capture capture(file);
    const auto wanted = each_once(request.frames, std::int64_t{1} << 40, file.name());
    std::optional<sluice::Clip> clip;
    Size native, shown;
    double start = 0, before = -1;
    std::size_t next = 0;
    for (std::int64_t number = 0; next < wanted.size() && capture.next(); ++number) {
      if (number == 0) start = capture.seconds();
      double seconds = capture.seconds() - start;
      if (seconds <= before && capture.rate() > 0) seconds = static_cast<double>(number) / capture.rate();
      before = seconds;
      if (number != 0 && number != wanted[next]) continue;
      const auto picture = capture.picture();
      if (number == 0) {
        native = {picture.rows, picture.cols};
        shown = target_size(native, short_side, size);
        clip.emplace(memory.array(sluice::DType::u8, {static_cast<std::int64_t>(request.frames.size()), shown.height, shown.width, 3}, "THWC"), memory);
        clip->set_rate(capture.rate());
      }
      if (number != wanted[next]) continue;
      if (picture.rows != native.height || picture.cols != native.width)
        throw sluice::Error(sluice::Code::data, file.name() + ": its pictures change their size at frame " + std::to_string(number), "decode.ffmpeg scales them to one size");
      place_frame(*clip, request.frames, number, [&](std::uint8_t* to) { scale_bgr(picture, shown, to); });
      for (std::size_t i = 0; i < request.frames.size(); ++i)
        if (request.frames[i] == number) request.times[i] = seconds;
      ++next;
    }
    if (next < wanted.size())
      throw sluice::Error(sluice::Code::data, file.name() + ": frame " + std::to_string(wanted[next]) + " was asked for, and OpenCV gives none",
                          "the file may have been replaced or be damaged; start again, so that headers are read anew");
    file.check_unchanged();
    return std::move(*clip);
  }
};
SLUICE_DECODER(Opencv, "decode.opencv");

}  // namespace
