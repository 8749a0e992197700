// Layers of a pipeline: the files that `extends` names, the file itself, those of --with, the overrides of the command line.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "framework/config/value.hpp"

namespace sluice {

// Reads `file` and what it extends, lowest first, and merges them; then, one on the other, the files of `with`. `extends` is a file or a list of files, relative to the file that
// names them; it is not part of the result. Throws Error for a cycle, a chain of more than 16, or what read_toml() throws.
[[nodiscard]] Table read_layers(const std::filesystem::path& file, const std::vector<std::filesystem::path>& with = {});

// Puts a plan that a run wrote down (plan.toml) on top: run.precision, budget.workers and compute_threads, batch.microbatch, eval.microbatch and [plan], nothing else. Throws
// Error(Code::configuration) for another key, or what read_toml() throws.
void apply_plan(Table& merged, const std::filesystem::path& file);

// Applies "a.b.c=value" in order. The value is TOML; what is no TOML is text, so that quotes are not needed.
// An element of a list of tables is addressed by its number from 0, or by the name of its plugin: stage.2.p=0.3,
// stage.augment.hflip.p=0.3, stage.augment.hflip#2.p=0.3 (its second occurrence), or the last word of the name, stage.hflip.p=0.3,
// where only one plugin has it. Throws Error(Code::configuration) whose place is the override.
void apply_overrides(Table& merged, const std::vector<std::string>& overrides);

inline constexpr int command_line_layer = 1000;
inline constexpr int plan_layer = 998;
[[nodiscard]] inline bool on_command_line(const Place& place) { return place.line == 0; }

// Where relative paths of this value start: the folder of its file, or the current one for the command line. Absolute.
[[nodiscard]] std::filesystem::path folder_of(const Place& place);

}  // namespace sluice
