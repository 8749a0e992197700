// The verbs of the command line, a file each. A verb adds its subcommand; running it leaves the exit code.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "framework/app/loaded.hpp"

namespace sluice::app {

// What the verb that was typed does, called after the command line has been parsed. Returns the exit code.
using Action = std::function<int()>;

void add_train(CLI::App& app, Action& action);
void add_eval(CLI::App& app, Action& action);
void add_predict(CLI::App& app, Action& action);
void add_check(CLI::App& app, Action& action);
void add_plan(CLI::App& app, Action& action);
void add_check_kernels(CLI::App& app, Action& action);
void add_measure_plan(CLI::App& app, Action& action);
void add_inspect(CLI::App& app, Action& action);
void add_plugins(CLI::App& app, Action& action);
void add_new(CLI::App& app, Action& action);
void add_data(CLI::App& app, Action& action);
void add_doctor(CLI::App& app, Action& action);
void add_data_bench(CLI::App& data, Action& action);  // below `data`

// FILE, --with OVERLAY and KEY=VALUE..., which most verbs take.
void add_pipeline_arguments(CLI::App& verb, PipelineArguments& arguments);
// --with alone, for a verb whose FILE may be something else.
void add_with(CLI::App& verb, std::vector<std::filesystem::path>& with);
// For options that name files: an empty word is a shell variable that was never set.
[[nodiscard]] CLI::Validator not_empty();

}  // namespace sluice::app
