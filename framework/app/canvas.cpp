// Drawing, and PNG by libpng.
#include "framework/app/canvas.hpp"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>
#include <png.h>

#include <sluice/error.hpp>

#include "framework/app/font.hpp"
#include "framework/base/bytes.hpp"

namespace sluice::app {

Canvas::Canvas(int height, int width, Colour background) : height_(height), width_(width), pixels_(static_cast<std::size_t>(height) * static_cast<std::size_t>(width) * 3) {
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) set(y, x, background);
}

void Canvas::set(int y, int x, Colour colour) {
  if (y < 0 || x < 0 || y >= height_ || x >= width_) return;
  std::uint8_t* pixel = pixels_.data() + (static_cast<std::size_t>(y) * static_cast<std::size_t>(width_) + static_cast<std::size_t>(x)) * 3;
  pixel[0] = colour.r;
  pixel[1] = colour.g;
  pixel[2] = colour.b;
}

Colour Canvas::at(int y, int x) const {
  const std::uint8_t* pixel = pixels_.data() + (static_cast<std::size_t>(y) * static_cast<std::size_t>(width_) + static_cast<std::size_t>(x)) * 3;
  return {pixel[0], pixel[1], pixel[2]};
}

void Canvas::draw(const ImageView& image, int top, int left, int height, int width) {
  if (image.height <= 0 || image.width <= 0) return;
  const auto from = [](int i, int size, int to) { return static_cast<int>(static_cast<std::int64_t>(i) * size / to); };
  for (int y = 0; y < height; ++y) {
    const int y0 = from(y, image.height, height), y1 = std::max(y0 + 1, from(y + 1, image.height, height));
    for (int x = 0; x < width; ++x) {
      const int x0 = from(x, image.width, width), x1 = std::max(x0 + 1, from(x + 1, image.width, width));
      std::uint64_t sum[3] = {};
      for (int sy = y0; sy < y1; ++sy)
        for (int sx = x0; sx < x1; ++sx) {
          const std::uint8_t* pixel = image.pixels + (static_cast<std::size_t>(sy) * static_cast<std::size_t>(image.width) + static_cast<std::size_t>(sx)) * static_cast<std::size_t>(image.channels);
          for (int c = 0; c < 3; ++c) sum[c] += pixel[image.channels == 3 ? c : 0];
        }
      const auto n = static_cast<std::uint64_t>((y1 - y0) * (x1 - x0));
      set(top + y, left + x, {static_cast<std::uint8_t>((sum[0] + n / 2) / n), static_cast<std::uint8_t>((sum[1] + n / 2) / n), static_cast<std::uint8_t>((sum[2] + n / 2) / n)});
    }
  }
}

void Canvas::text(std::string_view line, int top, int left, int scale, Colour colour) {
  constexpr std::uint64_t box = 0x7E318C63F;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const auto byte = static_cast<unsigned char>(line[i]);
    if ((byte & 0xC0) == 0x80) continue;  // the rest of a character that is no ASCII
    const std::uint64_t glyph = byte >= 32 && byte < 127 ? font[byte - 32u] : box;
    for (int y = 0; y < 7 * scale; ++y)
      for (int x = 0; x < 5 * scale; ++x)
        if ((glyph >> (34 - (y / scale * 5 + x / scale))) & 1u) set(top + y, left + x, colour);
    left += 6 * scale;
  }
}

int Canvas::text_width(std::string_view line, int scale) {
  return static_cast<int>(std::count_if(line.begin(), line.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; })) * 6 * scale;
}

void Canvas::write_png(const std::filesystem::path& file) const {
  png_image image;
  std::memset(&image, 0, sizeof image);
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(width_);
  image.height = static_cast<png_uint_32>(height_);
  image.format = PNG_FORMAT_RGB;
  if (png_image_write_to_file(&image, file.c_str(), 0, pixels_.data(), 0, nullptr) == 0)
    throw Error(Code::io, fmt::format("the picture of {} cannot be written: {}", format_bytes(pixels_.size()), image.message), "check that the folder exists, may be written and has room", file.string());
}

}  // namespace sluice::app
