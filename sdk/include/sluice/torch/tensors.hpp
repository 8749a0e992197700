// Named tensors: what goes into a model and comes out of it.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include <sluice/error.hpp>

namespace sluice {

struct NamedTensor {
  std::string name;
  at::Tensor tensor;
};

// A short list with look-up by name, in the order of insertion.
class NamedTensors {
 public:
  [[nodiscard]] const at::Tensor* find(std::string_view name) const {
    for (const auto& item : items_)
      if (item.name == name) return &item.tensor;
    return nullptr;
  }
  [[nodiscard]] bool has(std::string_view name) const { return find(name) != nullptr; }
  // Throws Code::configuration and says what there is.
  [[nodiscard]] const at::Tensor& get(std::string_view name) const {
    if (const auto* tensor = find(name)) return *tensor;
    std::string known;
    for (const auto& item : items_) known += (known.empty() ? "" : ", ") + item.name;
    throw Error(Code::configuration, "there is no tensor '" + std::string(name) + "' here", "there are: " + (known.empty() ? "none" : known));
  }
  void set(std::string_view name, at::Tensor tensor) {
    for (auto& item : items_)
      if (item.name == name) {
        item.tensor = std::move(tensor);
        return;
      }
    items_.push_back({std::string(name), std::move(tensor)});
  }
  [[nodiscard]] auto begin() const { return items_.begin(); }
  [[nodiscard]] auto end() const { return items_.end(); }
  [[nodiscard]] std::size_t size() const { return items_.size(); }

 private:
  std::vector<NamedTensor> items_;
};

// Streams of a microbatch by name, the first axis is the clip. Video streams: float [B, C, T, H, W], normalised as model.input says.
// Other arrays: stacked as they are; those of varying length padded with zeros, with `NAME.lengths` (int64 [B]) beside them.
using Inputs = NamedTensors;
// What the model says, e.g. "logits" [B, classes].
using Outputs = NamedTensors;

}  // namespace sluice
