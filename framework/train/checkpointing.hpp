// A run's tensors and state, to and from its checkpoints.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <sluice/torch/network.hpp>
#include <sluice/torch/training.hpp>

#include "framework/state/checkpoint.hpp"
#include "framework/train/run_state.hpp"

namespace sluice {

// States of the ordered stages: (stage, bytes).
using StageStates = std::vector<std::pair<std::string, std::string>>;

[[nodiscard]] std::filesystem::path checkpoint_folder(const std::filesystem::path& run_dir);
// Those that an earlier run left there, and the name that one had when it counted: "step-8" of "step-8.refused.2".
[[nodiscard]] std::vector<std::filesystem::path> checkpoints_set_aside(const std::filesystem::path& run_dir);
[[nodiscard]] std::string name_before(const std::filesystem::path& aside);

// Parameters and statistics.
[[nodiscard]] std::vector<NamedTensor> tensors_of(Model& model);

// Where it runs out of memory, once more with freed memory given back; then c10::OutOfMemoryError, or Error(Code::memory) where it was no
// tensor that found none, and nothing was written.
CheckpointStore::Saved save_checkpoint(CheckpointStore& store, const RunState& state, Model& model, Optimizer& optimizer, const StageStates& stages, bool best);

// Bytes of host memory that saving takes beside what it saves: the largest tensor that lies on another device or in another layout, for one is copied at a
// time. Between two steps, so that on the CPU it lies where activations and gradients were.
[[nodiscard]] std::uint64_t checkpoint_buffer(Model& model, Optimizer& optimizer);

struct Restored {
  RunState state;
  StageStates stages;
};
// Weights, optimizer and random generator become those of the checkpoint. Throws Error(Code::data) when they do not fit.
Restored restore_checkpoint(const Checkpoint& checkpoint, Model& model, Optimizer& optimizer);

// What eval and predict look at: weights, and the state that came with them where they are a checkpoint's.
struct Weights {
  std::optional<Checkpoint> checkpoint;
  std::optional<SafetensorsFile> file;
  std::optional<RunState> state;
  [[nodiscard]] const SafetensorsFile& tensors() const { return checkpoint ? checkpoint->model() : *file; }
  [[nodiscard]] std::filesystem::path path() const { return checkpoint ? checkpoint->folder() : file->path(); }
};
// `wanted`: a step-N folder, a .safetensors file, or empty: the best of the run, else its newest. Throws Error(Code::configuration)
// when there is none.
[[nodiscard]] Weights find_weights(const std::filesystem::path& wanted, const std::filesystem::path& run_dir);

}  // namespace sluice
