// The random generator travels with the optimizer's tensors: it is state of the same kind.
#include "framework/train/checkpointing.hpp"

#include <algorithm>
#include <new>
#include <string>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <c10/util/Exception.h>

#include <sluice/error.hpp>

#include "framework/base/log.hpp"
#include "framework/train/capped_allocator.hpp"
#include "framework/train/weights.hpp"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr const char* generator_name = "random.cpu";

std::vector<NamedTensor> with_generator(Optimizer& optimizer, const at::Tensor& generator) {
  std::vector<NamedTensor> tensors = optimizer.state();
  tensors.push_back({generator_name, generator});
  return tensors;
}

}  // namespace

fs::path checkpoint_folder(const fs::path& run_dir) { return run_dir / "checkpoints"; }

std::vector<fs::path> checkpoints_set_aside(const fs::path& run_dir) {
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(checkpoint_folder(run_dir), ignored))
    if (entry.path().filename().string().find(".refused") != std::string::npos) found.push_back(entry.path());
  return found;
}

std::string name_before(const fs::path& aside) {
  const std::string name = aside.filename().string();
  return name.substr(0, name.find(".refused"));
}

std::vector<NamedTensor> tensors_of(Model& model) {
  std::vector<NamedTensor> tensors = model.weights();
  for (auto& item : model.statistics()) tensors.push_back(std::move(item));
  return tensors;
}

namespace {

CheckpointStore::Saved save_once(CheckpointStore& store, const RunState& state, Model& model, Optimizer& optimizer, const StageStates& stages, bool best) {
  CheckpointContent content;
  content.step = state.step;
  // What is written is a view: the tensors live until it is.
  const auto weights = tensors_of(model);
  const auto optimizer_state = with_generator(optimizer, at::detail::getDefaultCPUGenerator().get_state());
  content.model = tensors_to_write(weights);
  content.optimizer = tensors_to_write(optimizer_state);
  content.state = to_json(state);
  for (const auto& [stage, bytes] : stages) content.blobs.emplace_back(stage, std::as_bytes(std::span(bytes)));
  return store.save(content, {.best = best});
}

}  // namespace

CheckpointStore::Saved save_checkpoint(CheckpointStore& store, const RunState& state, Model& model, Optimizer& optimizer, const StageStates& stages, bool best) {
  try {
    return save_once(store, state, model, optimizer, stages, best);
  } catch (const c10::OutOfMemoryError&) {
  } catch (const std::bad_alloc&) {
  }
  CappedAllocator::install().trim();
  try {
    return save_once(store, state, model, optimizer, stages, best);
  } catch (const std::bad_alloc&) {
    throw Error(Code::memory, "the machine has no memory to write the checkpoint of step " + std::to_string(state.step),
                "close other programs, or lower budget.host_ram below what is free; earlier checkpoints are as they were, and --resume goes on from the newest");
  }
}

std::uint64_t checkpoint_buffer(Model& model, Optimizer& optimizer) {
  std::uint64_t most = 0;
  for (const auto& tensors : {tensors_of(model), optimizer.state()})
    for (const auto& item : tensors) most = std::max(most, bytes_to_fetch(item.tensor));
  return most;
}

Restored restore_checkpoint(const Checkpoint& checkpoint, Model& model, Optimizer& optimizer) {
  Restored restored;
  restored.state = run_state_from_json(checkpoint.state());
  load_tensors(checkpoint.model(), tensors_of(model), false);
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  const at::Tensor random = at::empty_like(generator.get_state());
  load_tensors(checkpoint.optimizer(), with_generator(optimizer, random), false);
  generator.set_state(random);
  for (const auto& name : checkpoint.blobs()) {
    const auto bytes = checkpoint.blob(name);
    if (bytes) restored.stages.emplace_back(name, std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size()));
  }
  return restored;
}

Weights find_weights(const fs::path& wanted, const fs::path& run_dir) {
  Weights found;
  if (!wanted.empty() && !fs::is_directory(wanted)) {
    if (!fs::exists(wanted)) throw Error(Code::configuration, "there is no checkpoint here", "name a step-N folder or a .safetensors file", wanted.string());
    found.file.emplace(system_disk(), wanted);
    return found;
  }
  if (!wanted.empty()) {
    found.checkpoint.emplace(system_disk(), wanted);
  } else {
    const CheckpointStore store(checkpoint_folder(run_dir), {});
    if (auto best = store.best()) {
      found.checkpoint.emplace(std::move(*best));
    } else {
      auto newest = store.newest();
      for (const auto& refused : newest.refused) log::warning("{}: {}", refused.path.string(), refused.why);
      if (newest.checkpoint) found.checkpoint.emplace(std::move(*newest.checkpoint));
    }
    if (!found.checkpoint)
      throw Error(Code::configuration, "there is no checkpoint in this run's folder", "train it first; or name one, --checkpoint FOLDER; a relative run.dir is looked for from the current folder", checkpoint_folder(run_dir).string());
  }
  found.state = run_state_from_json(found.checkpoint->state());
  return found;
}

}  // namespace sluice
