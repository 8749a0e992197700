// Finds plugins by their manifests, loads one only when a pipeline uses it, never unloads.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <sluice/abi.hpp>
#include <sluice/manifest.hpp>

namespace sluice {

struct PluginFile {
  std::filesystem::path file;  // absolute
  std::vector<abi::Manifest> manifests;
};

class Registry {
 public:
  Registry();
  ~Registry();
  Registry(Registry&&) noexcept;
  Registry& operator=(Registry&&) noexcept;

  // Reads the manifests of every .so in the folder (or of the one file); runs no plugin code. A file that is no plugin or is not to be
  // trusted is remembered with its reason and reported when one of its names is asked for. Later paths win over earlier.
  void add_path(const std::filesystem::path& path);
  // The built-in plugins of this installation: lib/sluice/plugins beside the executable's folder.
  void add_builtin();

  struct Found {
    const abi::Manifest* manifest = nullptr;
    std::filesystem::path file;
  };
  // Null manifest when unknown.
  [[nodiscard]] Found find(const std::string& name) const;
  [[nodiscard]] std::vector<Found> all() const;  // sorted by name
  // Files that were refused: path and reason.
  [[nodiscard]] const std::vector<std::pair<std::filesystem::path, std::string>>& refused() const;
  // The names nearest to a misspelt one, best first.
  [[nodiscard]] std::vector<std::string> suggestions(const std::string& name) const;

  // Loads (once) and returns the descriptor. Throws Error(Code::plugin) with the field that does not match, or the file's defect.
  [[nodiscard]] const abi::Descriptor& load(const std::string& name);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice
