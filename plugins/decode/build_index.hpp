// Makes the index of a video file.
#pragma once

#include "video_index.hpp"

namespace sluice::decode {

// Reads every packet of the file's video stream once, and decodes one frame to learn its true size; all of them only
// where the container's time stamps do not tell the order of frames. Throws Code::data for what is no video, holds less
// than it promises, or is larger than limits.hpp allows.
VideoIndex build_index(const InputFile& file);

}  // namespace sluice::decode
