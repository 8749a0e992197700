// Finds plugins by their manifests, loads one only when a pipeline uses it, never unloads.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <sluice/abi.hpp>
#include <sluice/manifest.hpp>

#include "framework/config/catalogue.hpp"

namespace sluice {

class Registry final : public Catalogue {
 public:
  Registry();
  ~Registry() override;
  Registry(Registry&&) noexcept;
  Registry& operator=(Registry&&) noexcept;

  // Reads the manifests of every .so in the folder (or of the one file); runs no plugin code. A file that is no plugin or is not to be
  // trusted is remembered with its reason and reported when one of its names is asked for. Later paths win over earlier. Two files of
  // one folder that hold the same name are both refused it. Throws Error(Code::configuration) when the path does not exist, Code::plugin
  // when everybody may write into the folder.
  void add_path(const std::filesystem::path& path) override;
  // The built-in plugins of this installation: sluice/plugins beside libsluice.so.
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

  [[nodiscard]] const abi::Manifest* manifest(const std::string& name) const override { return find(name).manifest; }
  [[nodiscard]] std::vector<std::string> names(abi::Kind kind) const override;
  [[nodiscard]] std::vector<std::string> names() const override;
  [[nodiscard]] std::string refusal(const std::string& name) const override;
  [[nodiscard]] std::vector<std::string> refusals() const override;
  [[nodiscard]] std::vector<std::string> searched() const override;

  // What the training half of a plugin must have been built with, key=value;..., as libsluice_train gives it. Until it is set,
  // plugins with a fingerprint are not loaded. `rebuild` is the command that builds a plugin anew.
  void expect_fingerprint(std::string fingerprint, std::string rebuild);

  // Loads (once) and returns the descriptor. Throws Error(Code::plugin) with the field that does not match, or the file's defect.
  [[nodiscard]] const abi::Descriptor& load(const std::string& name);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The first field in which a plugin's fingerprint differs from the one expected; empty when they are equal.
[[nodiscard]] std::string fingerprint_difference(const std::string& expected, const std::string& found);

}  // namespace sluice
