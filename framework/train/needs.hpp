// What the tensors of a run need: measured by one microbatch of zeros at the largest shapes, kept for the next start.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "framework/train/assemble.hpp"
#include "framework/train/cut.hpp"

#include <sluice/torch/network.hpp>
#include <sluice/torch/training.hpp>

namespace sluice {

struct TensorNeeds {
  std::uint64_t base = 0;         // resident beside the tensors before the first pass: libraries, listing, headers
  std::uint64_t runtime = 0;      // what the libraries keep beside the tensors while they work
  std::uint64_t parameters = 0;   // and statistics
  std::uint64_t gradients = 0;
  std::uint64_t optimizer = 0;
  std::uint64_t activations = 0;  // at the peak, of training or evaluation
  std::uint64_t per_clip = 0;     // of the activations, for each clip of the microbatch
  bool measured = true;           // false: worked out from smaller microbatches, for the whole did not fit
  [[nodiscard]] std::uint64_t tensors() const { return parameters + gradients + optimizer + activations; }
};

struct NeedsRequest {
  Model* model = nullptr;
  Loss* loss = nullptr;
  Optimizer* optimizer = nullptr;
  const Assembler* train = nullptr;  // null: no training, evaluation alone
  const Assembler* eval = nullptr;   // null: no evaluation
  Cut cut;
  std::int64_t batch_size = 1;
  std::int64_t classes = 0;
  std::uint64_t host_ram = 0;  // the measurement itself stays below it, unless it shows that the budget is too small
  std::uint64_t others = 0;    // of it, what is spoken for beside tensors and libraries
};

// Weights, statistics, optimizer state and the random generator are as before.
[[nodiscard]] TensorNeeds measure_needs(const NeedsRequest& request);

// A file for each key in `folder`; an empty folder keeps nothing. What cannot be read or written is as if it were not there.
[[nodiscard]] std::optional<TensorNeeds> recall_needs(const std::filesystem::path& folder, const std::string& key);
void remember_needs(const std::filesystem::path& folder, const std::string& key, const TensorNeeds& needs);

}  // namespace sluice
