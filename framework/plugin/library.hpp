// A plugin file in memory: loaded by Boost.DLL from the descriptor that was checked, never unloaded.
#pragma once

#include <vector>

#include <sluice/abi.hpp>
#include <sluice/manifest.hpp>

#include "framework/plugin/trust.hpp"

namespace sluice {

// Loads the file with all symbols bound now and none of them shared, calls its entry point, and checks that its table holds what
// `manifests` says: those that were read from the same descriptor. Throws Error(Code::plugin) without a place.
// The table lives as long as the process, and so does the open file.
[[nodiscard]] const abi::PluginTable& load_library(TrustedFile file, const std::vector<abi::Manifest>& manifests);

}  // namespace sluice
