// Implements image_folder.hpp.
#include "image_folder.hpp"

#include <algorithm>
#include <cctype>
#include <filesystem>

#include <sluice/error.hpp>

#include "input_file.hpp"

namespace sluice::decode {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_picture(const std::filesystem::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return (extension == ".jpg" || extension == ".jpeg" || extension == ".png" || extension == ".bmp") && path.filename().native().front() != '.';
}

}  // namespace

bool natural_less(std::string_view a, std::string_view b) {
  std::size_t i = 0, k = 0;
  while (i < a.size() && k < b.size()) {
    if (is_digit(a[i]) && is_digit(b[k])) {
      const auto number = [](std::string_view text, std::size_t& at) {
        const auto begin = std::min(text.find_first_not_of('0', at), text.size());
        at = begin;
        while (at < text.size() && is_digit(text[at])) ++at;
        return text.substr(begin, at - begin);
      };
      const auto x = number(a, i), y = number(b, k);
      if (x.size() != y.size()) return x.size() < y.size();
      if (x != y) return x < y;
    } else {
      if (a[i] != b[k]) return static_cast<unsigned char>(a[i]) < static_cast<unsigned char>(b[k]);
      ++i, ++k;
    }
  }
  if (i < a.size() || k < b.size()) return i >= a.size();
  return a < b;  // 01 and 1: some order, and always the same
}

std::vector<std::string> pictures_in(const std::string& folder) {
  const auto name = printable(folder);
  std::error_code failed;
  if (!std::filesystem::is_directory(folder, failed))
    throw Error(Code::data, name + (std::filesystem::exists(folder, failed) ? ": it is no folder of pictures" : ": there is no such folder"),
                "decode.frames reads folders of .jpg, .png or .bmp files; decode.ffmpeg reads video files");
  std::filesystem::directory_iterator entries(folder, failed);
  if (failed) throw Error(Code::data, name + ": the folder cannot be read: " + failed.message(), "chmod u+rx, or run as its owner");
  std::vector<std::string> pictures;
  for (; entries != std::filesystem::directory_iterator(); entries.increment(failed)) {
    if (failed) throw Error(Code::io, name + ": the folder cannot be read: " + failed.message());
    if (is_picture(entries->path())) pictures.push_back(entries->path().string());
  }
  if (pictures.empty()) throw Error(Code::data, name + ": the folder holds no .jpg, .png or .bmp file", "name the folder in which the pictures are, not the one above it");
  const auto at = (std::filesystem::path(folder) / "").string().size();
  std::sort(pictures.begin(), pictures.end(), [&](const auto& a, const auto& b) { return natural_less(std::string_view(a).substr(at), std::string_view(b).substr(at)); });
  return pictures;
}

}  // namespace sluice::decode
