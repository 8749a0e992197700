// Tensors of a network and of an optimizer, to and from safetensors files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <sluice/torch/network.hpp>

#include "framework/state/safetensors.hpp"

namespace sluice {

// What to write, in the order given. Tensors that are not plain CPU memory in C order are copied one at a time, when it is their turn.
// Views: `tensors` must live until they are written.
[[nodiscard]] std::vector<TensorToWrite> tensors_to_write(const std::vector<NamedTensor>& tensors);
std::vector<TensorToWrite> tensors_to_write(std::vector<NamedTensor>&&) = delete;

// Bytes of such a copy; 0 where none is needed.
[[nodiscard]] std::uint64_t bytes_to_fetch(const at::Tensor& tensor);

struct WeightsReport {
  std::int64_t matched = 0;
  std::vector<std::string> missing;      // in the network, not in the file
  std::vector<std::string> unexpected;   // in the file, not in the network
  std::vector<std::string> other_shape;  // "fc.weight: 8x512 here, 400x512 in the file"
  std::vector<std::string> left_alone;   // the classifier, where only the number of classes differs
  [[nodiscard]] bool complete() const { return missing.empty() && unexpected.empty() && other_shape.empty(); }
  // One line for a log, several where something does not match.
  [[nodiscard]] std::string text() const;
};

// By name; types are converted, shapes must be equal. Counters of batches (num_batches_tracked) may be absent. With
// `other_classes`, tensors of one module that differ from the file's in axis 0 alone stay as they are (a head for other classes).
// Throws Error(Code::data) with the report, before anything is changed, unless all matches.
WeightsReport load_tensors(const SafetensorsFile& file, const std::vector<NamedTensor>& into, bool other_classes);

}  // namespace sluice
