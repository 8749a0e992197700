// OpenCV's BGR pictures into RGB bytes of the size wanted.
#pragma once

#include <cstdint>

#include <opencv2/core.hpp>

#include "target_size.hpp"

namespace sluice::decode {

// Writes shown.height x shown.width x 3 bytes at `to`. Scales by area when both sides shrink, else linearly.
void scale_bgr(const cv::Mat& picture, Size shown, std::uint8_t* to);

// What it takes beside the result.
std::uint64_t scale_bytes(Size from, Size shown);

// OpenCV would run loops of its own on threads that nobody budgeted.
void keep_opencv_on_this_thread();

}  // namespace sluice::decode
