// Loads a pipeline: files, overrides, every check that needs no plugin's code.
//
//   Registry registry;
//   registry.add_builtin();
//   const Pipeline pipeline = load_pipeline("motion8.toml", {"batch.size=8"}, registry);
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "framework/config/catalogue.hpp"
#include "framework/config/pipeline.hpp"

namespace sluice {

// What the pipeline is wanted for: training needs all of it, looking at data only [data] and the stages.
enum class Purpose { training, data };

// `plan`: the plan.toml of a run to replay, below the overrides; empty: none. `with`: files that are put on top of `file`, in
// their order, below the plan.
// Adds the pipeline's [plugins] path to the catalogue, then checks every key. Throws PipelineError with all problems found
// (exit code 2, or 3 where the only problem is a plugin file that is not to be trusted), or Error for a file that cannot be read.
[[nodiscard]] Pipeline load_pipeline(const std::filesystem::path& file, const std::vector<std::string>& overrides, Catalogue& catalogue,
                                     Purpose purpose = Purpose::training, const std::filesystem::path& plan = {},
                                     const std::vector<std::filesystem::path>& with = {});

// The pipeline as TOML with every default, one file, paths absolute: what a run writes down. Loads to the same pipeline again.
[[nodiscard]] std::string canonical_toml(const Pipeline& pipeline, const Catalogue& catalogue);

// A markdown table for each section, from the declaration of the keys: the page docs/reference/pipeline.md.
[[nodiscard]] std::string key_reference();

}  // namespace sluice
