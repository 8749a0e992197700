// A small checkpoint whose every byte follows from its step and a seed, so that a test can tell a right one from a wrong one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <random>
#include <string>
#include <vector>

#include "framework/state/checkpoint.hpp"

namespace sluice::testing {

class KnownContent {
 public:
  // `scale` 1 makes about 1 KiB in all.
  explicit KnownContent(std::int64_t step, std::uint64_t seed = 7, int scale = 1) : step_(step) {
    std::mt19937_64 random(seed * 1000003 + static_cast<std::uint64_t>(step));
    const auto tensor = [&](std::string name, TensorType type, std::vector<std::int64_t> shape) {
      std::size_t bytes = sluice::bytes_of(type);
      for (const auto extent : shape) bytes *= static_cast<std::size_t>(extent);
      auto& storage = storage_.emplace_back(bytes);
      for (auto& byte : storage) byte = static_cast<std::byte>(random());
      return TensorToWrite{std::move(name), type, std::move(shape), storage};
    };
    content_.step = step;
    content_.model = {tensor("layer.weight", TensorType::f32, {scale, 3, 20}), tensor("layer.bias", TensorType::f32, {3}),
                      tensor("layer.steps", TensorType::i64, {})};
    content_.optimizer = {tensor("layer.weight.momentum", TensorType::f32, {scale, 3, 20}), tensor("half", TensorType::bf16, {5})};
    content_.state = R"({"epoch":)" + std::to_string(step / 10) + R"(,"step":)" + std::to_string(step) + "}";
    auto& blob = storage_.emplace_back(static_cast<std::size_t>(scale) * 30);
    for (auto& byte : blob) byte = static_cast<std::byte>(random());
    content_.blobs = {{"augment.mixup", blob}};
  }
  KnownContent(const KnownContent&) = delete;
  KnownContent& operator=(const KnownContent&) = delete;

  [[nodiscard]] const CheckpointContent& content() const { return content_; }

  // Empty, or what differs.
  [[nodiscard]] std::string difference(const Checkpoint& loaded) const {
    if (loaded.step() != step_) return "step";
    if (loaded.state() != content_.state) return "state";
    if (const auto text = compare(content_.model, loaded.model()); !text.empty()) return text;
    if (const auto text = compare(content_.optimizer, loaded.optimizer()); !text.empty()) return text;
    if (loaded.blobs() != std::vector<std::string>{"augment.mixup"}) return "names of blobs";
    const auto blob = loaded.blob("augment.mixup");
    const auto& wanted = content_.blobs[0].second;
    if (!blob || blob->size() != wanted.size() || std::memcmp(blob->data(), wanted.data(), wanted.size()) != 0) return "blob";
    return {};
  }

 private:
  static std::string compare(const std::vector<TensorToWrite>& wanted, const SafetensorsFile& file) {
    if (file.tensors().size() != wanted.size()) return "number of tensors";
    for (const auto& tensor : wanted) {
      const auto* found = file.find(tensor.name);
      if (!found || found->type != tensor.type || found->shape != tensor.shape) return tensor.name;
      const auto bytes = file.read(*found);
      if (bytes.size() != tensor.bytes.size() || std::memcmp(bytes.data(), tensor.bytes.data(), bytes.size()) != 0) return "bytes of " + tensor.name;
    }
    return {};
  }

  std::int64_t step_;
  CheckpointContent content_;
  std::deque<std::vector<std::byte>> storage_;
};

}  // namespace sluice::testing
