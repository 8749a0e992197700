// A VideoIndex as bytes on disk, so that the packets of a file are looked at once and not once a run.
#pragma once

#include <filesystem>
#include <optional>

#include "video_index.hpp"

namespace sluice::decode {

// The index stored for this state of this file; nothing where there is none, or it is of another version, another state
// of the file, or damaged.
std::optional<VideoIndex> load_index(const std::filesystem::path& folder, const InputFile& file);

// Readers see the old bytes or all of the new ones. A disk that is full or read-only is no error: the index is made again.
void store_index(const std::filesystem::path& folder, const InputFile& file, const VideoIndex& index);

}  // namespace sluice::decode
