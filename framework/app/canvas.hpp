// A picture in memory: RGB, with scaled images and lines of text, written as PNG.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

namespace sluice::app {

struct Colour {
  std::uint8_t r, g, b;
};

// Pixels of somebody else: height x width x channels bytes, 1 (grey) or 3 (RGB) channels.
struct ImageView {
  const std::uint8_t* pixels;
  int height, width, channels;
};

class Canvas {
 public:
  Canvas(int height, int width, Colour background);

  [[nodiscard]] int height() const { return height_; }
  [[nodiscard]] int width() const { return width_; }
  [[nodiscard]] Colour at(int y, int x) const;
  // Scaled to height x width: means of areas where it shrinks, whole pixels where it grows. What lies outside is cut.
  void draw(const ImageView& image, int top, int left, int height, int width);
  // 5 x 7 pixels a character and one between, times `scale`. What is no ASCII is drawn as a box.
  void text(std::string_view line, int top, int left, int scale, Colour colour);
  [[nodiscard]] static int text_width(std::string_view line, int scale);
  static constexpr int text_height(int scale) { return 7 * scale; }

  // Throws Error(Code::io).
  void write_png(const std::filesystem::path& file) const;

 private:
  void set(int y, int x, Colour colour);
  int height_, width_;
  std::vector<std::uint8_t> pixels_;
};

}  // namespace sluice::app
