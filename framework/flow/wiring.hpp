// Which stage waits for which. The graph follows from the streams: from the last writer to the next reader.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <sluice/abi.hpp>
#include <sluice/manifest.hpp>

#include "framework/config/pipeline.hpp"

namespace sluice {

// A stage as its manifest and its table in the pipeline declare it.
struct StageShape {
  std::string name;   // plugin and occurrence
  std::string place;  // file:line:column
  std::string only;   // "", "train" or "eval"
  abi::Kind kind = abi::Kind::stage;
  std::uint32_t flags = 0;  // abi::ManifestFlag
  std::vector<std::string> on{}, reads{}, writes{};
  std::vector<std::string> consumes{};  // streams that are gone after it: a decoder's S.frames

  [[nodiscard]] bool at_admission() const { return kind == abi::Kind::frames; }
  [[nodiscard]] bool ordered() const { return flags & abi::manifest_ordered; }
  [[nodiscard]] bool whole_clip() const { return flags & abi::manifest_whole_clip; }
  [[nodiscard]] bool parallel() const { return flags & abi::manifest_parallel; }
  [[nodiscard]] bool runs_in(bool training) const { return only.empty() || only == (training ? "train" : "eval"); }
};
// Throws Code::configuration when the plugin is of a kind that is no stage.
[[nodiscard]] StageShape shape_of(const StageConfig& config, const abi::Manifest& manifest);

struct Wiring {
  std::vector<StageShape> stages;
  std::vector<std::vector<int>> before;  // the stages that each one waits for, without those implied by others
  std::vector<std::vector<int>> after;   // the same edges, the other way
  std::vector<std::string> from_source[2];  // streams that the source must give: in evaluation, in training

  // Whether stage `b` can only run after stage `a`.
  [[nodiscard]] bool ordered(int a, int b) const;
};

// `source`: the streams that the source gives; nothing when that is not known yet (then whatever no stage writes is its).
// Throws Code::configuration, with the place of the stage: a stream that nobody writes, a cycle, two unordered writers.
[[nodiscard]] Wiring wire(std::vector<StageShape> stages, const std::optional<std::vector<std::string>>& source);

}  // namespace sluice
