// Writes and reads manifest.json.
#include "framework/state/manifest.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

#include <sluice/error.hpp>

#include "framework/base/strings.hpp"
#include "framework/state/hash.hpp"

namespace sluice {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* format_name = "sluice checkpoint 1";

std::string text_with(const Manifest& manifest, const std::string& hash) {
  Json files = Json::object();
  for (const auto& file : manifest.files) files[file.name] = {{"bytes", file.bytes}, {"xxh3_128", file.hash}};
  Json blobs = Json::object();
  for (const auto& [name, file] : manifest.blobs) blobs[name] = file;
  const Json all = {{"format", format_name}, {"step", manifest.step}, {"files", files}, {"blobs", blobs}, {"manifest_xxh3_128", hash}};
  return all.dump(1) + "\n";
}

bool plain_name(const std::string& name) {
  const auto allowed = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_'; };
  return !name.empty() && name.front() != '.' && std::all_of(name.begin(), name.end(), allowed);
}

}  // namespace

std::string manifest_text(const Manifest& manifest) { return text_with(manifest, hash_of(text_with(manifest, ""))); }

Manifest parse_manifest(std::string_view text) {
  const auto broken = [](const std::string& why) { return Error(Code::data, "the manifest is damaged: " + why); };
  Manifest manifest;
  try {
    const Json all = Json::parse(text);
    if (all.at("format").get<std::string>() != format_name)
      throw Error(Code::data, "the manifest is of another format: " + in_quotes(all.at("format").get<std::string>()), "load it with the version of sluice that wrote it");
    manifest.step = all.at("step").get<std::int64_t>();
    for (const auto& [name, file] : all.at("files").items()) {
      if (!plain_name(name)) throw broken(in_quotes(name) + " is no name of a file");
      manifest.files.push_back({name, file.at("bytes").get<std::uint64_t>(), file.at("xxh3_128").get<std::string>()});
    }
    for (const auto& [name, file] : all.at("blobs").items()) manifest.blobs.emplace_back(name, file.get<std::string>());
    if (manifest_text(manifest) != text) throw broken("its own hash does not fit");
  } catch (const nlohmann::json::exception&) {
    throw broken("it is no JSON of the right form");
  }
  if (manifest.step < 0) throw broken("the step is negative");
  for (const auto& [name, file] : manifest.blobs) {
    const auto listed = [&, wanted = &file](const ManifestFile& other) { return other.name == *wanted; };
    if (std::none_of(manifest.files.begin(), manifest.files.end(), listed)) throw broken(in_quotes(name) + " has no file");
  }
  return manifest;
}

}  // namespace sluice
