// The pipeline that a verb was given, checked, with the plugins it may use.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "framework/config/load.hpp"
#include "framework/config/pipeline.hpp"
#include "framework/plugin/registry.hpp"

namespace sluice::app {

struct PipelineArguments {
  std::string file;
  std::vector<std::string> overrides{};
  std::vector<std::filesystem::path> with{};  // files on top of `file`, below the overrides
  std::string plan{};  // a run's plan.toml to replay; empty: none
};

struct Loaded {
  Registry registry;
  Pipeline pipeline;
};

// A registry of the built-in plugins, and the pipeline checked against it. No plugin has been loaded. Notices of the
// configuration go to standard error.
[[nodiscard]] Loaded load(const PipelineArguments& arguments, Purpose purpose = Purpose::training);

}  // namespace sluice::app
