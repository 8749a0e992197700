// cv::resize on views of the clips' own memory: no copy beside the result, no thread beside the caller's.
#include "resize_frames.hpp"

#include <opencv2/imgproc.hpp>

#include "crop_frames.hpp"

namespace sluice {
namespace {

// OpenCV would run its own parallel loop, on threads that nobody budgeted, inside of a stage that runs in parallel already.
void stay_on_this_thread() {
  static const bool once = (cv::setNumThreads(1), true);
  static_cast<void>(once);
}

int flag_of(Interpolation how, const Size& from, const Size& to) {
  switch (how) {
    case Interpolation::automatic: return to.height <= from.height && to.width <= from.width ? cv::INTER_AREA : cv::INTER_LINEAR;
    case Interpolation::area: return cv::INTER_AREA;
    case Interpolation::linear: return cv::INTER_LINEAR;
    case Interpolation::cubic: return cv::INTER_CUBIC;
    case Interpolation::nearest: return cv::INTER_NEAREST;
  }
  return cv::INTER_LINEAR;
}

cv::Mat matrix_of(const Frame& frame) {
  return {static_cast<int>(frame.height), static_cast<int>(frame.width), CV_MAKETYPE(CV_8U, static_cast<int>(frame.channels)), frame.pixels};
}

}  // namespace

Interpolation interpolation_of(std::string_view name) {
  if (name == "area") return Interpolation::area;
  if (name == "linear") return Interpolation::linear;
  if (name == "cubic") return Interpolation::cubic;
  if (name == "nearest") return Interpolation::nearest;
  return Interpolation::automatic;
}

std::uint64_t resize_scratch(const Size& from, const Size& to, std::int64_t channels) {
  const auto sides = from.height + from.width + to.height + to.width, row = std::max(from.width, to.width) * channels;
  const auto block = (from.height / to.height + 1) * (from.width / to.width + 1);  // of pixels that "area" makes one of
  return 4096 + static_cast<std::uint64_t>(40 * sides + 64 * row + 4 * block);
}

Clip resized(Clip clip, const Region& region, const Size& to, Interpolation how) {
  if (region.size == to) return cropped(std::move(clip), region, Fill::zero);
  stay_on_this_thread();
  auto out = clip.make(clip.frames(), to.height, to.width);
  const cv::Rect inside(static_cast<int>(region.left), static_cast<int>(region.top), static_cast<int>(region.size.width), static_cast<int>(region.size.height));
  const int flag = flag_of(how, region.size, to);
  for (std::int64_t t = 0; t < clip.frames(); ++t) {
    const auto from = matrix_of(clip.frame(t));
    auto made = matrix_of(out.frame(t));  // of the right size and type, so that OpenCV writes into it
    cv::resize(from(inside), made, made.size(), 0, 0, flag);
  }
  return out;
}

}  // namespace sluice
