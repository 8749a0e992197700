// Clip: frames of video as uint8 THWC, and Frame, a view of one of them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include <sluice/array.hpp>

namespace sluice {

// A view of height x width x channels bytes inside a Clip; valid as long as the clip.
struct Frame {
  std::uint8_t* pixels;
  std::int64_t height;
  std::int64_t width;
  std::int64_t channels;

  [[nodiscard]] std::int64_t row_bytes() const { return width * channels; }
  [[nodiscard]] std::uint8_t* row(std::int64_t y) const { return pixels + y * row_bytes(); }
  [[nodiscard]] std::uint8_t* at(std::int64_t y, std::int64_t x) const { return row(y) + x * channels; }

  // Left to right.
  void mirror() const {
    for (std::int64_t y = 0; y < height; ++y)
      for (std::int64_t a = 0, b = width - 1; a < b; ++a, --b) std::swap_ranges(at(y, a), at(y, a) + channels, at(y, b));
  }
  // Top to bottom.
  void flip() const {
    for (std::int64_t a = 0, b = height - 1; a < b; ++a, --b) std::swap_ranges(row(a), row(a) + row_bytes(), row(b));
  }
};

// Move-only, as Array is. Axes THWC, frame rate along T.
class Clip {
 public:
  Clip(Array array, Memory memory) : array_(std::move(array)), memory_(memory) {
    if (array_.rank() != 4 || array_.dtype() != DType::u8)
      throw Error(Code::plugin, "a clip is uint8 with axes THWC, not " + std::string(name_of(array_.dtype())) + " " + array_.shape().text(),
                  "put this stage after a decoder, and on a video stream");
  }

  [[nodiscard]] std::int64_t frames() const { return array_.extent(0); }
  [[nodiscard]] std::int64_t height() const { return array_.extent(1); }
  [[nodiscard]] std::int64_t width() const { return array_.extent(2); }
  [[nodiscard]] std::int64_t channels() const { return array_.extent(3); }
  [[nodiscard]] double rate() const { return array_.rate(); }
  void set_rate(double rate) { array_.set_rate(rate); }

  [[nodiscard]] Frame frame(std::int64_t t) {
    return {array_.data() + t * height() * width() * channels(), height(), width(), channels()};
  }
  template <class Function> void for_each_frame(Function function) {
    for (std::int64_t t = 0; t < frames(); ++t) function(frame(t));
  }

  // A new clip of the same rate and channels from the sample's lease, pixels uninitialised.
  [[nodiscard]] Clip make(std::int64_t frames, std::int64_t height, std::int64_t width) const {
    Clip clip(memory_.array(DType::u8, {frames, height, width, channels()}, "THWC"), memory_);
    clip.set_rate(rate());
    return clip;
  }

  [[nodiscard]] Array& array() { return array_; }
  [[nodiscard]] const Array& array() const { return array_; }
  [[nodiscard]] Array into_array() && { return std::move(array_); }

 private:
  Array array_;
  Memory memory_;
};

}  // namespace sluice
