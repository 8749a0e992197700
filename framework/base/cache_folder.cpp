// The cache folder, as the XDG base directory specification places it.
#include "framework/base/cache_folder.hpp"

#include <cstdlib>

namespace sluice {

std::filesystem::path cache_folder() {
  const auto absolute = [](const char* name) -> std::filesystem::path {
    const char* value = std::getenv(name);
    const std::filesystem::path path = value ? value : "";
    return path.is_absolute() ? path : std::filesystem::path();
  };
  if (const auto cache = absolute("XDG_CACHE_HOME"); !cache.empty()) return cache / "sluice";
  if (const auto home = absolute("HOME"); !home.empty()) return home / ".cache" / "sluice";
  return {};
}

}  // namespace sluice
