// A pipeline that suits the videos that a survey found, as a commented file.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "framework/app/survey.hpp"

namespace sluice::app {

// What the mirror of each class is. `sure` is false where the names do not tell: then clips are not mirrored.
struct Mirror {
  bool sure = true;
  std::string why;                          // where it is not, or where labels change
  std::map<std::string, std::string> labels;  // classes that become others, both ways
};
[[nodiscard]] Mirror mirror_of(const std::vector<Survey::Class>& classes);

struct Recommendation {
  std::int64_t frames = 16, stride = 1;
  std::optional<std::int64_t> rate;        // of the clip, where the files' rates differ
  std::optional<std::int64_t> short_side;  // frames are scaled to it; nothing: they are small and of one size
  std::int64_t crop = 0;                   // pixels; 0: whole frames
  bool large_network = false;              // r3d_18 rather than a narrow network of ten layers
  std::int64_t batch = 16, epochs = 1, workers = 2;
};
[[nodiscard]] Recommendation recommend(const Survey& survey);

// `data` is what [data] says beside the plugin, lines of TOML; `file` is called by its name in comments.
[[nodiscard]] std::string pipeline_text(const Survey& survey, const Recommendation& choice, const std::string& name, const std::string& data);

}  // namespace sluice::app
