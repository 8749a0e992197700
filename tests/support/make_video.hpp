// Small videos, made by the ffmpeg program.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace sluice::testing {

// `source` is a filter of ffmpeg's lavfi, e.g. "testsrc2=size=320x240:rate=25:duration=2"; `options` follow it.
inline void make_video(const std::filesystem::path& file, const std::string& source, const std::string& options = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p") {
  const std::string command = "ffmpeg -v error -y -f lavfi -i '" + source + "' " + options + " '" + file.string() + "' </dev/null";
  if (std::system(command.c_str()) != 0) throw std::runtime_error("failed: " + command);
}

}  // namespace sluice::testing
