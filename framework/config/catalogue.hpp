// Catalogue: what the configuration needs to know of plugins, their manifests; never their code.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <sluice/abi.hpp>
#include <sluice/manifest.hpp>

namespace sluice {

class Catalogue {
 public:
  virtual ~Catalogue() = default;

  // Null when no plugin has this name. Valid as long as the catalogue.
  [[nodiscard]] virtual const abi::Manifest* manifest(const std::string& name) const = 0;
  // Every name of this kind, sorted; of every kind without an argument.
  [[nodiscard]] virtual std::vector<std::string> names(abi::Kind kind) const = 0;
  [[nodiscard]] virtual std::vector<std::string> names() const = 0;
  // Why a file that may hold this name was refused: "FILE: reason". Empty when there is none.
  [[nodiscard]] virtual std::string refusal(const std::string& name) const = 0;
  // All refused files, "FILE: reason" each.
  [[nodiscard]] virtual std::vector<std::string> refusals() const = 0;
  // Folders and files that were searched, as given.
  [[nodiscard]] virtual std::vector<std::string> searched() const = 0;
  // Adds a folder of plugins, or one file. Throws Error when it does not exist.
  virtual void add_path(const std::filesystem::path& path) = 0;

 protected:
  Catalogue() = default;
  Catalogue(const Catalogue&) = default;
  Catalogue(Catalogue&&) = default;
  Catalogue& operator=(const Catalogue&) = default;
  Catalogue& operator=(Catalogue&&) = default;
};

// "stage", "decoder", ...; "unknown" for what is no kind.
[[nodiscard]] std::string_view name_of(abi::Kind kind);
inline constexpr std::uint32_t first_kind = 1, last_kind = 11;

}  // namespace sluice
