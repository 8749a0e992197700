// The objects that a pipeline's training plugins build: model, loss, optimizer, schedule, metrics.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <c10/core/Device.h>

#include <sluice/torch/network.hpp>
#include <sluice/torch/training.hpp>

#include "framework/config/pipeline.hpp"
#include "framework/plugin/recipe.hpp"
#include "framework/plugin/registry.hpp"
#include "framework/train/evaluation.hpp"

namespace sluice {

using StreamInfos = std::vector<std::pair<std::string, Info>>;

// Initialised from the run's seed, on the device, in the layout that the pipeline wants, BatchNorm frozen where it says so.
[[nodiscard]] std::unique_ptr<Model> build_model(Registry& registry, const Pipeline& pipeline, const std::vector<std::string>& classes,
                                                 const StreamInfos& streams, at::Device device);
[[nodiscard]] std::unique_ptr<Loss> build_loss(Registry& registry, const Pipeline& pipeline, const std::vector<std::string>& classes);
// Its state is allocated.
[[nodiscard]] std::unique_ptr<Optimizer> build_optimizer(Registry& registry, const Pipeline& pipeline, Model& model);
// Null without [schedule].
[[nodiscard]] std::unique_ptr<Schedule> build_schedule(Registry& registry, const Pipeline& pipeline, std::int64_t total_steps, std::int64_t steps_per_epoch);
// Named as in the file without the kind: "accuracy", "accuracy#2".
[[nodiscard]] std::vector<NamedMetric> build_metrics(Registry& registry, const Pipeline& pipeline, const std::vector<std::string>& classes);
// The numbers that an evaluation will report.
[[nodiscard]] std::vector<std::string> metric_names(const std::vector<NamedMetric>& metrics);

// Whether tensors of images and videos lie channels last.
[[nodiscard]] bool wants_channels_last(const Pipeline& pipeline);

}  // namespace sluice
