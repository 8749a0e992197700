// manifest.json of a checkpoint: what files it has, their sizes and hashes. Itself under a hash, and accepted only byte for byte as it
// would be written, so that no damage to it goes unnoticed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice {

struct ManifestFile {
  std::string name;  // in the checkpoint's folder
  std::uint64_t bytes = 0;
  std::string hash;  // xxh3-128 in hex
};

struct Manifest {
  std::int64_t step = 0;
  std::vector<ManifestFile> files;
  std::vector<std::pair<std::string, std::string>> blobs;  // name of the blob, name of its file
};

[[nodiscard]] std::string manifest_text(const Manifest& manifest);
// Throws Error(Code::data) with the defect.
[[nodiscard]] Manifest parse_manifest(std::string_view text);

}  // namespace sluice
