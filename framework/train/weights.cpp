// Names, shapes and types are compared for all tensors before the first is read.
#include "framework/train/weights.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <set>
#include <span>

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/base/strings.hpp"

namespace sluice {
namespace {

TensorType type_of(const NamedTensor& tensor) {
  switch (tensor.tensor.scalar_type()) {
    case at::kDouble: return TensorType::f64;
    case at::kFloat: return TensorType::f32;
    case at::kHalf: return TensorType::f16;
    case at::kBFloat16: return TensorType::bf16;
    case at::kLong: return TensorType::i64;
    case at::kInt: return TensorType::i32;
    case at::kByte: return TensorType::u8;
    case at::kBool: return TensorType::boolean;
    default: break;
  }
  throw Error(Code::plugin, fmt::format("tensor '{}' has the type {}, which a checkpoint cannot hold", tensor.name, c10::toString(tensor.tensor.scalar_type())));
}

at::ScalarType torch_type(TensorType type) {
  switch (type) {
    case TensorType::f64: return at::kDouble;
    case TensorType::f32: return at::kFloat;
    case TensorType::f16: return at::kHalf;
    case TensorType::bf16: return at::kBFloat16;
    case TensorType::i64: return at::kLong;
    case TensorType::i32: return at::kInt;
    case TensorType::u8: return at::kByte;
    case TensorType::boolean: return at::kBool;
  }
  return at::kFloat;
}

std::string shape_text(at::IntArrayRef shape) { return shape.empty() ? "a scalar" : fmt::format("{}", fmt::join(shape, "x")); }

std::string module_of(const std::string& name) {
  const auto dot = name.rfind('.');
  return dot == std::string::npos ? std::string() : name.substr(0, dot);
}

bool may_be_absent(const std::string& name) { return name.ends_with("num_batches_tracked"); }

bool differs_in_classes_alone(at::IntArrayRef here, at::IntArrayRef there) {
  return here.size() == there.size() && !here.empty() && here.slice(1) == there.slice(1);
}

std::string listed(const std::vector<std::string>& names) {
  std::string out;
  for (std::size_t i = 0; i < names.size() && i < 12; ++i) out += "\n    " + names[i];
  if (names.size() > 12) out += fmt::format("\n    and {} more", names.size() - 12);
  return out;
}

}  // namespace

std::uint64_t bytes_to_fetch(const at::Tensor& tensor) { return tensor.is_cpu() && tensor.is_contiguous() ? 0 : static_cast<std::uint64_t>(tensor.nbytes()); }

std::vector<TensorToWrite> tensors_to_write(const std::vector<NamedTensor>& tensors) {
  std::vector<TensorToWrite> out;
  const auto on_host = std::make_shared<at::Tensor>();  // the one that is being written
  for (const auto& item : tensors) {
    TensorToWrite entry;
    entry.name = item.name;
    entry.type = type_of(item);
    entry.shape = item.tensor.sizes().vec();
    const auto bytes = static_cast<std::size_t>(item.tensor.nbytes());
    if (bytes_to_fetch(item.tensor) == 0)
      entry.bytes = {static_cast<const std::byte*>(item.tensor.const_data_ptr()), bytes};
    else
      entry.fetch = [tensor = item.tensor, on_host, bytes]() -> std::span<const std::byte> {
        on_host->reset();
        *on_host = tensor.detach().to(tensor.options().device(at::kCPU), false, true, at::MemoryFormat::Contiguous);
        return {static_cast<const std::byte*>(on_host->const_data_ptr()), bytes};
      };
    out.push_back(std::move(entry));
  }
  return out;
}

std::string WeightsReport::text() const {
  std::string out = counted(static_cast<std::uint64_t>(matched), "tensor") + " loaded";
  if (!left_alone.empty()) out += fmt::format("; left as initialised, for they are of other classes:{}", listed(left_alone));
  if (!missing.empty()) out += fmt::format("\n  {} not in the file:{}", missing.size(), listed(missing));
  if (!other_shape.empty()) out += fmt::format("\n  {} of another shape:{}", other_shape.size(), listed(other_shape));
  if (!unexpected.empty()) out += fmt::format("\n  {} in the file that the network does not have:{}", unexpected.size(), listed(unexpected));
  return out;
}

WeightsReport load_tensors(const SafetensorsFile& file, const std::vector<NamedTensor>& into, bool other_classes) {
  WeightsReport report;
  std::set<std::string, std::less<>> known;
  std::vector<std::pair<const NamedTensor*, const TensorInFile*>> pairs;
  std::vector<std::string> class_texts;
  std::set<std::string> class_modules;
  for (const auto& item : into) {
    known.insert(item.name);
    const TensorInFile* found = file.find(item.name);
    if (found == nullptr) {
      if (!may_be_absent(item.name)) report.missing.push_back(item.name + ": " + shape_text(item.tensor.sizes()));
      continue;
    }
    if (item.tensor.sizes() == at::IntArrayRef(found->shape)) {
      pairs.emplace_back(&item, found);
      continue;
    }
    const std::string text = fmt::format("{}: {} here, {} in the file", item.name, shape_text(item.tensor.sizes()), shape_text(found->shape));
    if (other_classes && differs_in_classes_alone(item.tensor.sizes(), found->shape)) {
      class_texts.push_back(text);
      class_modules.insert(module_of(item.name));
    } else {
      report.other_shape.push_back(text);
    }
  }
  // One module is a head for other classes; several are another network.
  auto& texts = class_modules.size() == 1 && !pairs.empty() ? report.left_alone : report.other_shape;
  texts.insert(texts.end(), class_texts.begin(), class_texts.end());
  for (const auto& item : file.tensors())
    if (!known.contains(item.name) && !may_be_absent(item.name)) report.unexpected.push_back(item.name + ": " + shape_text(item.shape));
  report.matched = static_cast<std::int64_t>(pairs.size());
  if (!report.complete())
    throw Error(Code::data, "the weights do not fit the network: " + report.text(),
                "name the network that the weights were made with, or rename the tensors in the file", file.path().string());
  const at::NoGradGuard no_grad;
  for (const auto& [item, found] : pairs) {
    at::Tensor host = at::empty(found->shape, torch_type(found->type));
    file.read(*found, {static_cast<std::byte*>(host.data_ptr()), static_cast<std::size_t>(host.nbytes())});
    at::Tensor to = item->tensor;
    to.copy_(host);
  }
  return report;
}

}  // namespace sluice
