// What `sluice inspect` shows: a plugin, or the graph that a pipeline becomes.
#pragma once

#include <string>

#include "framework/app/loaded.hpp"

namespace sluice::app {

// Parameters, streams, file and, where the plugin can be asked without LibTorch, bytes for a clip of 16 x 240 x 320.
// Throws Error(Code::configuration) with the nearest names when there is no such plugin.
void inspect_plugin(Registry& registry, const std::string& name, bool json);

// Reads the listing and the headers of the videos; decodes nothing.
void inspect_pipeline(Loaded& loaded, bool json);

}  // namespace sluice::app
