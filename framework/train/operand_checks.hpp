// What can be said of an operator before it runs: indices outside of what they index, operands that do not fit one another. For --debug.
//
//   range_problem("aten::embedding", inputs);   // "index 12 of 10, which are 0 to 9"
//   mismatch("aten::linear", inputs);           // "24 features meet a weight for 16"
//
// Names and inputs are those of LibTorch's schemas. Empty where nothing is wrong, or nothing is known of the operator.
#pragma once

#include <string>
#include <string_view>

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <c10/util/ArrayRef.h>

namespace sluice {

// Also of those that say nothing themselves: CTC on the CPU takes any id for a class. Reads the indices.
[[nodiscard]] std::string range_problem(std::string_view operation, c10::ArrayRef<const c10::IValue> inputs);
// Of shapes and floating types; what the operator itself refuses too, in words of its own.
[[nodiscard]] std::string mismatch(std::string_view operation, c10::ArrayRef<const c10::IValue> inputs);

// "Float [2x3]"
[[nodiscard]] std::string type_and_shape(const at::Tensor& tensor);

}  // namespace sluice
