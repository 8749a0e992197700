// The verbs of the command line, a file each. A verb adds its subcommand; running it leaves the exit code.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "framework/config/pipeline.hpp"
#include "framework/plugin/registry.hpp"

namespace sluice::app {

// What the verb that was typed does, called after the command line has been parsed. Returns the exit code.
using Action = std::function<int()>;

void add_train(CLI::App& app, Action& action);
void add_eval(CLI::App& app, Action& action);
void add_predict(CLI::App& app, Action& action);
void add_check(CLI::App& app, Action& action);
void add_plugins(CLI::App& app, Action& action);

// FILE and KEY=VALUE..., which most verbs take.
struct PipelineArguments {
  std::string file;
  std::vector<std::string> overrides;
  void add_to(CLI::App& verb);
};

// A registry of the built-in plugins, and the pipeline checked against it. Notices of the configuration go to standard error.
struct Loaded {
  Registry registry;
  Pipeline pipeline;
};
Loaded load(const PipelineArguments& arguments);

}  // namespace sluice::app
