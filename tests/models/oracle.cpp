// Runs the oracle and computes the two formulas that both sides share.
#include "oracle.hpp"

#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include <ATen/ops/from_blob.h>

namespace sluice::testing {

const nlohmann::json& oracle() {
  static const nlohmann::json answers = [] {
    const auto file = std::filesystem::temp_directory_path() / ("sluice-oracle-" + std::to_string(getpid()) + ".json");
    const std::string command = std::string("PYTHONDONTWRITEBYTECODE=1 '") + SLUICE_PYTHON + "' '" + SLUICE_ORACLE + "' '" + file.string() + "'";
    if (std::system(command.c_str()) != 0) throw std::runtime_error("the oracle failed: " + command);
    std::ifstream in(file);
    auto parsed = nlohmann::json::parse(in);
    std::filesystem::remove(file);
    return parsed;
  }();
  return answers;
}

at::Tensor wave(at::IntArrayRef shape, double phase, double scale) {
  std::int64_t elements = 1;
  for (const auto extent : shape) elements *= extent;
  std::vector<double> values(static_cast<std::size_t>(elements));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<double>(i) * 0.7 + phase) * scale;
  return at::from_blob(values.data(), shape, at::kDouble).clone();
}

std::vector<double> signature(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.detach().to(at::kDouble).contiguous().reshape({-1});
  double sum = 0, along = 0;
  for (std::int64_t i = 0; i < flat.numel(); ++i) {
    const double value = flat.const_data_ptr<double>()[i];
    sum += value;
    along += value * std::cos(static_cast<double>(i) * 0.3);
  }
  return {sum, along};
}

at::Tensor to_tensor(const nlohmann::json& numbers) {
  std::vector<double> flat;
  const auto add = [&](const auto& self, const nlohmann::json& node) -> void {
    if (!node.is_array()) flat.push_back(node.get<double>());
    else for (const auto& item : node) self(self, item);
  };
  add(add, numbers);
  return at::from_blob(flat.data(), {static_cast<std::int64_t>(flat.size())}, at::kDouble).clone();
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.detach().to(at::kDouble).contiguous().reshape({-1}), y = b.detach().to(at::kDouble).contiguous().reshape({-1});
  if (x.numel() != y.numel()) return INFINITY;
  return difference(std::vector<double>(x.const_data_ptr<double>(), x.const_data_ptr<double>() + x.numel()),
                    std::vector<double>(y.const_data_ptr<double>(), y.const_data_ptr<double>() + y.numel()));
}

double difference(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return INFINITY;
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double apart = std::abs(a[i] - b[i]) / (1 + std::abs(b[i]));
    if (!(apart <= largest)) largest = apart;  // a NaN sticks
  }
  return largest;
}

}  // namespace sluice::testing
