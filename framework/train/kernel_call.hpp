// A kernel as a network calls it: the operation with the shapes and numbers it is given, and no values. What a convolution, norm or
// attention in reduced precision is known by, when it is recorded, checked, and trusted or not.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <ATen/core/ivalue.h>
#include <c10/core/MemoryFormat.h>
#include <c10/core/ScalarType.h>

namespace sluice {

struct TensorShape {
  std::vector<std::int64_t> sizes;
  at::ScalarType type = at::kFloat;
  at::MemoryFormat format = at::MemoryFormat::Contiguous;
  friend bool operator==(const TensorShape&, const TensorShape&) = default;
};

struct KernelCall {
  using Argument = std::variant<std::monostate, bool, std::int64_t, double, std::vector<std::int64_t>, TensorShape>;
  std::string operation;  // "aten::convolution"
  std::vector<Argument> arguments;

  // Of the operations that are watched: convolution, batch_norm, layer_norm, group_norm, instance_norm, scaled_dot_product_attention.
  [[nodiscard]] static bool is_watched(std::string_view operation);
  // Of the number of clips it counts whether it is one: two stand for any more. Neither the chance of dropout in an attention counts,
  // nor the bias of a convolution, which is added behind the kernel.
  [[nodiscard]] static KernelCall of(std::string_view operation, std::span<const c10::IValue> arguments);
  [[nodiscard]] std::optional<KernelCall> with_one_clip() const;  // nothing where it has
  [[nodiscard]] bool is_reduced() const;  // its first argument is bf16 or fp16

  // One line of JSON, and back. Throws Error(Code::data) on another text.
  [[nodiscard]] std::string text() const;
  [[nodiscard]] static KernelCall from_text(std::string_view text);
  // For people: "convolution bf16 256 to 512 channels, 2x14x14, kernel 3x3x3".
  [[nodiscard]] std::string words() const;
  friend bool operator==(const KernelCall&, const KernelCall&) = default;
};

}  // namespace sluice
