// Weights by name: what goes in comes out, and what does not fit is named before anything changes.
#include "framework/train/weights.hpp"

#include <ATen/core/Tensor.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include <sluice/error.hpp>

using namespace sluice;
namespace fs = std::filesystem;

namespace {

struct Folder {
  fs::path path = fs::temp_directory_path() / ("sluice-weights-" + std::to_string(getpid()));
  Folder() { fs::create_directories(path); }
  ~Folder() { fs::remove_all(path); }
};

SafetensorsFile written(const Folder& folder, const std::vector<NamedTensor>& tensors) {
  const auto file = folder.path / "w.safetensors";
  write_safetensors(system_disk(), file, tensors_to_write(tensors));
  return SafetensorsFile(system_disk(), file);
}

std::vector<NamedTensor> like(const std::vector<NamedTensor>& tensors) {
  std::vector<NamedTensor> out;
  for (const auto& item : tensors) out.push_back({item.name, at::zeros_like(item.tensor)});
  return out;
}

}  // namespace

// Mistake caught: bytes written in memory order instead of C order, so that Python reads a permuted convolution.
TEST_CASE("tensors of all types and layouts come back as they were") {
  const Folder folder;
  const std::vector<NamedTensor> tensors{
      {"conv.weight", at::randn({4, 3, 2, 5, 5}).contiguous(at::MemoryFormat::ChannelsLast3d)}, {"bias", at::randn({4})},
      {"half", at::randn({3}).to(at::kHalf)}, {"brain", at::randn({3}).to(at::kBFloat16)}, {"double", at::randn({2, 2}, at::kDouble).t()},
      {"count", at::zeros({}, at::kLong).fill_(7)}, {"empty", at::zeros({0, 3})}};
  const auto file = written(folder, tensors);
  const auto into = like(tensors);
  const auto report = load_tensors(file, into, false);
  CHECK(report.matched == 7);
  CHECK(report.complete());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    CHECK(into[i].tensor.equal(tensors[i].tensor));
    CHECK(into[i].tensor.strides() == tensors[i].tensor.strides());
  }
  const auto* conv = file.find("conv.weight");
  const auto bytes = file.read(*conv);
  const at::Tensor plain = tensors[0].tensor.contiguous();
  CHECK(std::memcmp(bytes.data(), plain.const_data_ptr(), bytes.size()) == 0);
}

// Mistake caught: half-loaded weights that train on as if nothing were wrong.
TEST_CASE("what is missing, unexpected or of another shape is listed with both shapes, and nothing is changed") {
  const Folder folder;
  const auto file = written(folder, {{"a", at::randn({2, 3})}, {"b", at::randn({4})}, {"old", at::randn({1})}});
  const std::vector<NamedTensor> into{{"a", at::zeros({2, 3})}, {"b", at::zeros({5, 4})}, {"c", at::zeros({7})}};
  try {
    load_tensors(file, into, true);
    FAIL("it was accepted");
  } catch (const Error& error) {
    CHECK(error.code() == Code::data);
    const std::string text = error.what();
    CHECK(text.find("c: 7") != std::string::npos);
    CHECK(text.find("b: 5x4 here, 4 in the file") != std::string::npos);
    CHECK(text.find("old: 1") != std::string::npos);
    CHECK(text.find("w.safetensors") != std::string::npos);
  }
  CHECK(into[0].tensor.abs().sum().item<double>() == 0);
}

// Mistake caught: published weights with 400 classes that cannot start a training with 8; or another network taken for one.
TEST_CASE("a head for another number of classes stays as initialised, where that is allowed") {
  const Folder folder;
  const auto file = written(folder, {{"layer.weight", at::randn({3, 3})}, {"bn.num_batches_tracked", at::zeros({}, at::kLong)},
                                     {"fc.weight", at::randn({400, 3})}, {"fc.bias", at::randn({400})}});
  const std::vector<NamedTensor> into{{"layer.weight", at::zeros({3, 3})}, {"fc.weight", at::zeros({8, 3})}, {"fc.bias", at::zeros({8})}};
  CHECK_THROWS_WITH_AS(load_tensors(file, into, false), doctest::Contains("fc.weight: 8x3 here, 400x3 in the file"), Error);
  const auto report = load_tensors(file, into, true);
  CHECK(report.matched == 1);
  CHECK(report.left_alone.size() == 2);
  CHECK(report.text().find("400x3") != std::string::npos);
  CHECK(into[0].tensor.abs().sum().item<double>() > 0);
  const std::vector<NamedTensor> wider{{"layer.weight", at::zeros({5, 3})}, {"fc.weight", at::zeros({8, 3})}, {"fc.bias", at::zeros({400})}};
  CHECK_THROWS_AS(load_tensors(file, wider, true), Error);
}
