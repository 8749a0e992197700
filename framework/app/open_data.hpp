// The data of a pipeline for the verbs that look at it without training: source, stages, headers of the videos.
#pragma once

#include <memory>

#include "framework/app/loaded.hpp"
#include "framework/flow/dataset.hpp"

namespace sluice::app {

struct OpenData {
  Stages stages;
  std::unique_ptr<Dataset> dataset;
};

// Loads source and stages, no LibTorch. Says what it does on standard error when that is a terminal.
[[nodiscard]] OpenData open_data(Registry& registry, const Pipeline& pipeline);

}  // namespace sluice::app
