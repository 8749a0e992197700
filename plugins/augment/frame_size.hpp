// Sizes and regions of frames, and the questions that stages which change them ask of an Info.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <sluice/error.hpp>
#include <sluice/info.hpp>

namespace sluice {

struct Size {
  std::int64_t height = 0;
  std::int64_t width = 0;

  [[nodiscard]] std::string text() const { return std::to_string(height) + "x" + std::to_string(width); }
  friend bool operator==(const Size&, const Size&) = default;
};

// May reach over the frame's edges.
struct Region {
  std::int64_t top = 0;
  std::int64_t left = 0;
  Size size{};
};

// The field `size`: [height, width], or [n] for a square. Throws Code::configuration.
inline Size size_of(const std::vector<std::int64_t>& numbers) {
  if (numbers.size() != 1 && numbers.size() != 2)
    throw Error(Code::configuration, "size has " + std::to_string(numbers.size()) + " numbers", "size = [height, width], e.g. [112, 112]");
  for (const auto number : numbers)
    if (number < 1 || number > 16384) throw Error(Code::configuration, "size holds " + std::to_string(number), "from 1 to 16384 pixels");
  return {numbers.front(), numbers.back()};
}

// Throws Code::configuration when the stream is no video.
inline void must_be_video(const Info& info) {
  if (info.text || info.dtype != DType::u8 || info.shape.rank() != 4)
    throw Error(Code::configuration, info.text ? std::string("the stream is a text, not a clip") : "the stream is " + std::string(name_of(info.dtype)) + " " + info.shape.text() + ", not a clip (uint8 THWC)",
                "put this stage after a decoder, and on a video stream");
}
inline Size size_of(const Info& info) { return {info.shape[1], info.shape[2]}; }
inline bool size_varies(const Info& info) { return info.varies(1) || info.varies(2); }

// The same stream with frames of another size, known exactly.
inline Info with_size(Info info, const Size& size) {
  info.shape[1] = size.height;
  info.shape[2] = size.width;
  info.varying = static_cast<std::uint8_t>(info.varying & ~0b110u);
  info.scratch = 0;
  return info;
}

}  // namespace sluice
