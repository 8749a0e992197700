// Compares a kernel in reduced precision with the same operation in fp32, on the same random values: its output and its gradients.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "framework/train/kernel_call.hpp"
#include "framework/train/kernel_routes.hpp"

namespace sluice {

// Relative errors, |a - b| / |b| over all elements; infinite where a value is not finite.
struct KernelErrors {
  double output = 0;
  double input_gradient = 0;   // of an attention: the worst of queries, keys and values
  double weight_gradient = 0;  // of a norm: the worst of weight and bias; 0 without any
  double products = 0;         // the weight gradient of a convolution by products
};

// What is small enough to be rounding: sixteen units in the last place. Convolutions that are right show one, a layer norm over four
// channels ten.
[[nodiscard]] KernelRoutes::Trust judge(const KernelErrors& errors, at::ScalarType type);

// `run`: the operation; by default the library's own. The routes must trust all (KernelRoutes::trust_all) while it runs. Where memory
// is short it is tried with half the height and width, down to a kernel's; c10::OutOfMemoryError where that is too much too.
using RunKernel = std::function<at::Tensor(const KernelCall& call, const std::vector<at::Tensor>& tensors)>;
[[nodiscard]] KernelErrors check_kernel(const KernelCall& call, const RunKernel& run = {});

}  // namespace sluice
