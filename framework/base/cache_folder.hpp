// Where things lie that can be made again: headers of videos, frame indices, measurements.
#pragma once

#include <filesystem>

namespace sluice {

// $XDG_CACHE_HOME/sluice, else $HOME/.cache/sluice; empty where neither is an absolute path: then nothing is cached.
// Not made yet.
[[nodiscard]] std::filesystem::path cache_folder();

}  // namespace sluice
