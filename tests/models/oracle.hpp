// What PyTorch says: oracle/make.py is run once a process, its answers are read from JSON.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <nlohmann/json.hpp>

namespace sluice::testing {

const nlohmann::json& oracle();

// The formula that stands for data on both sides: sin(0.7 i + phase) * scale over the elements, float64.
at::Tensor wave(at::IntArrayRef shape, double phase, double scale = 1.0);

// Two numbers that a change of any element, or of their order, moves.
std::vector<double> signature(const at::Tensor& tensor);

at::Tensor to_tensor(const nlohmann::json& numbers);  // float64, one axis
// Largest |a - b| / (1 + |b|).
double difference(const at::Tensor& a, const at::Tensor& b);
double difference(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace sluice::testing
