// Implements scale_bgr.hpp.
#include "scale_bgr.hpp"

#include <opencv2/imgproc.hpp>

namespace sluice::decode {

void scale_bgr(const cv::Mat& picture, Size shown, std::uint8_t* to) {
  cv::Mat made(static_cast<int>(shown.height), static_cast<int>(shown.width), CV_8UC3, to);
  if (picture.size() == made.size()) {
    cv::cvtColor(picture, made, cv::COLOR_BGR2RGB);
    return;
  }
  const bool smaller = made.cols <= picture.cols && made.rows <= picture.rows;
  cv::resize(picture, made, made.size(), 0, 0, smaller ? cv::INTER_AREA : cv::INTER_LINEAR);
  cv::cvtColor(made, made, cv::COLOR_BGR2RGB);
}

std::uint64_t scale_bytes(Size from, Size shown) {
  const auto blocks = (from.height / std::max<std::int64_t>(shown.height, 1) + 1) * (from.width / std::max<std::int64_t>(shown.width, 1) + 1);
  const auto sides = from.height + from.width + shown.height + shown.width;
  return static_cast<std::uint64_t>(3 * shown.height * shown.width + 40 * sides + 192 * std::max(from.width, shown.width) + 4 * blocks) + 8192;
}

void keep_opencv_on_this_thread() {
  static const bool once = (cv::setNumThreads(1), true);
  static_cast<void>(once);
}

}  // namespace sluice::decode
