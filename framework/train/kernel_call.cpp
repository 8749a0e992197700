// The text is the key: equal calls have equal texts.
#include "framework/train/kernel_call.hpp"

#include <algorithm>
#include <array>

#include <ATen/core/Tensor.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <sluice/error.hpp>

namespace sluice {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<std::string_view, 6> watched{"aten::convolution", "aten::batch_norm", "aten::layer_norm", "aten::group_norm", "aten::instance_norm", "aten::scaled_dot_product_attention"};
constexpr std::string_view convolution = watched[0], attention = watched[5];
// Places among the arguments.
constexpr std::size_t attention_dropout = 4, convolution_bias = 2;

constexpr std::array<std::pair<at::ScalarType, const char*>, 7> types{{{at::kFloat, "fp32"}, {at::kBFloat16, "bf16"}, {at::kHalf, "fp16"}, {at::kDouble, "fp64"}, {at::kBool, "bool"}, {at::kLong, "i64"}, {at::kInt, "i32"}}};

const char* name_of_type(at::ScalarType type) {
  for (const auto& [known, name] : types)
    if (known == type) return name;
  return "other";
}

at::ScalarType type_named(const std::string& name) {
  for (const auto& [type, known] : types)
    if (name == known) return type;
  throw Error(Code::data, "no type of a tensor: " + name);
}

KernelCall::Argument argument_of(const c10::IValue& value) {
  if (value.isTensor()) {
    const at::Tensor& tensor = value.toTensor();
    if (!tensor.defined()) return std::monostate{};
    return TensorShape{tensor.sizes().vec(), tensor.scalar_type(), tensor.suggest_memory_format()};
  }
  if (value.isBool()) return value.toBool();
  if (value.isInt()) return value.toInt();
  if (value.isDouble()) return value.toDouble();
  if (value.isIntList()) return value.toIntVector();
  return std::monostate{};
}

std::string extents(const std::vector<std::int64_t>& sizes, std::size_t from) {
  std::string text;
  for (std::size_t i = from; i < sizes.size(); ++i) text += (text.empty() ? "" : "x") + std::to_string(sizes[i]);
  return text;
}

}  // namespace

bool KernelCall::is_watched(std::string_view operation) { return std::find(watched.begin(), watched.end(), operation) != watched.end(); }

KernelCall KernelCall::of(std::string_view operation, std::span<const c10::IValue> arguments) {
  KernelCall call{std::string(operation), {}};
  for (const auto& argument : arguments) call.arguments.push_back(argument_of(argument));
  const std::size_t with_clips = operation == attention ? 4 : 1;
  for (std::size_t i = 0; i < std::min(with_clips, call.arguments.size()); ++i)
    if (auto* shape = std::get_if<TensorShape>(&call.arguments[i]); shape && !shape->sizes.empty() && shape->sizes.front() > 1) shape->sizes.front() = 2;
  if (operation == attention && call.arguments.size() > attention_dropout) call.arguments[attention_dropout] = 0.0;
  if (operation == convolution && call.arguments.size() > convolution_bias) call.arguments[convolution_bias] = std::monostate{};
  return call;
}

std::optional<KernelCall> KernelCall::with_one_clip() const {
  KernelCall one = *this;
  const std::size_t with_clips = operation == attention ? 4 : 1;
  for (std::size_t i = 0; i < std::min(with_clips, one.arguments.size()); ++i)
    if (auto* shape = std::get_if<TensorShape>(&one.arguments[i]); shape && !shape->sizes.empty() && shape->sizes.front() == 2) shape->sizes.front() = 1;
  return one == *this ? std::nullopt : std::optional(one);
}

bool KernelCall::is_reduced() const {
  const auto* shape = arguments.empty() ? nullptr : std::get_if<TensorShape>(&arguments.front());
  return shape && (shape->type == at::kBFloat16 || shape->type == at::kHalf);
}

std::string KernelCall::text() const {
  Json json = Json::array({operation});
  for (const auto& argument : arguments) {
    std::visit(
        [&](const auto& value) {
          using T = std::decay_t<decltype(value)>;
          if constexpr (std::is_same_v<T, std::monostate>) json.push_back(nullptr);
          else if constexpr (std::is_same_v<T, TensorShape>) json.push_back({{name_of_type(value.type), value.sizes}, {"last", value.format != at::MemoryFormat::Contiguous}});
          else json.push_back(value);
        },
        argument);
  }
  return json.dump();
}

KernelCall KernelCall::from_text(std::string_view text) {
  try {
    const Json json = Json::parse(text);
    KernelCall call{json.at(0).get<std::string>(), {}};
    for (std::size_t i = 1; i < json.size(); ++i) {
      const Json& item = json[i];
      if (item.is_boolean()) call.arguments.emplace_back(item.get<bool>());
      else if (item.is_number_integer()) call.arguments.emplace_back(item.get<std::int64_t>());
      else if (item.is_number()) call.arguments.emplace_back(item.get<double>());
      else if (item.is_array()) call.arguments.emplace_back(item.get<std::vector<std::int64_t>>());
      else if (item.is_object()) {
        TensorShape shape{item.begin().value().get<std::vector<std::int64_t>>(), type_named(item.begin().key()), at::MemoryFormat::Contiguous};
        if (item.at("last").get<bool>()) shape.format = shape.sizes.size() == 5 ? at::MemoryFormat::ChannelsLast3d : at::MemoryFormat::ChannelsLast;
        call.arguments.emplace_back(std::move(shape));
      } else {
        call.arguments.emplace_back(std::monostate{});
      }
    }
    if (!is_watched(call.operation)) throw Error(Code::data, "no operation that is watched: " + call.operation);
    return call;
  } catch (const nlohmann::json::exception& error) {
    throw Error(Code::data, std::string("no text of a kernel call: ") + error.what());
  }
}

std::string KernelCall::words() const {
  const std::string name = operation.substr(operation.find("::") + 2);
  const auto* input = arguments.empty() ? nullptr : std::get_if<TensorShape>(&arguments.front());
  if (!input) return name;
  const auto* weight = arguments.size() > 1 ? std::get_if<TensorShape>(&arguments[1]) : nullptr;
  if (operation == convolution && weight && weight->sizes.size() > 2)
    return fmt::format("{} {} {} to {} channels, {}, kernel {}", name, name_of_type(input->type), weight->sizes[1], weight->sizes[0], extents(input->sizes, 2), extents(weight->sizes, 2));
  return fmt::format("{} {} {}", name, name_of_type(input->type), extents(input->sizes, 1));
}

}  // namespace sluice
