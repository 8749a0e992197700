// A folder of measurements for one test: the processes that it starts find nothing there that others left.
//
//   const OwnCache cache(folder.path());
#pragma once

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

namespace sluice::testing {

class OwnCache {
 public:
  explicit OwnCache(const std::filesystem::path& folder) {
    if (const char* before = std::getenv("XDG_CACHE_HOME")) before_ = before;
    setenv("XDG_CACHE_HOME", (folder / "cache").c_str(), 1);
  }
  ~OwnCache() {
    if (before_) setenv("XDG_CACHE_HOME", before_->c_str(), 1);
    else unsetenv("XDG_CACHE_HOME");
  }
  OwnCache(const OwnCache&) = delete;
  OwnCache& operator=(const OwnCache&) = delete;

 private:
  std::optional<std::string> before_;
};

}  // namespace sluice::testing
