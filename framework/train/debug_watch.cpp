// An observer cannot stop an operation (LibTorch swallows what observers throw), so it takes notes.
#include "framework/train/debug_watch.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include <ATen/core/Tensor.h>
#include <ATen/core/function_schema.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/isfinite.h>
#include <fmt/format.h>

#include "framework/base/strings.hpp"

namespace sluice {
namespace {

DebugWatch* watching = nullptr;

std::string text_of(const at::Tensor& tensor) {
  std::string sizes;
  for (const auto size : tensor.sizes()) sizes += (sizes.empty() ? "" : "x") + std::to_string(size);
  return fmt::format("{} [{}]", c10::toString(tensor.scalar_type()), sizes);
}

std::string inputs_of(const at::RecordFunction& function) {
  std::string text;
  for (const auto& value : function.inputs())
    if (value.isTensor() && value.toTensor().defined()) text += (text.empty() ? "" : ", ") + text_of(value.toTensor());
  return text;
}

std::string plain(std::string_view name) { return std::string(name.starts_with("aten::") ? name.substr(6) : name); }

// Operations that read by index: the place of the table, of the indices, and of the axis (-1: the first).
struct Indexed {
  std::string_view name;
  std::size_t table, indices;
  int axis;
  std::int64_t ignored = -1;  // the place of an index that does not count
};
constexpr std::array<Indexed, 6> indexed{{{"aten::embedding", 0, 1, -1},
                                          {"aten::index_select", 0, 2, 1},
                                          {"aten::gather", 0, 2, 1},
                                          {"aten::scatter", 0, 2, 1},
                                          {"aten::cross_entropy_loss", 0, 1, -2, 4},
                                          {"aten::nll_loss_nd", 0, 1, -2, 4}}};

std::string range_problem(const at::RecordFunction& function) {
  for (const auto& operation : indexed) {
    if (operation.name != function.name()) continue;
    const auto inputs = function.inputs();
    if (inputs.size() <= std::max(operation.table, operation.indices)) return {};
    if (!inputs[operation.table].isTensor() || !inputs[operation.indices].isTensor()) return {};
    const at::Tensor table = inputs[operation.table].toTensor(), indices = inputs[operation.indices].toTensor();
    if (!table.defined() || !indices.defined() || indices.numel() == 0 || table.dim() == 0 || indices.is_floating_point()) return {};
    const std::int64_t axis = operation.axis == -1 ? 0 : operation.axis == -2 ? std::min<std::int64_t>(1, table.dim() - 1) : inputs[static_cast<std::size_t>(operation.axis)].toInt();
    at::Tensor counted = indices.reshape({-1});
    if (operation.ignored >= 0 && inputs.size() > static_cast<std::size_t>(operation.ignored) && inputs[static_cast<std::size_t>(operation.ignored)].isInt())
      counted = counted.masked_select(counted.ne(inputs[static_cast<std::size_t>(operation.ignored)].toInt()));
    if (counted.numel() == 0) return {};
    const std::int64_t extent = table.size(axis), least = counted.min().item<std::int64_t>(), most = counted.max().item<std::int64_t>();
    if (least >= 0 && most < extent) return {};
    return fmt::format("index {} of {}, which are 0 to {}", least < 0 ? least : most, extent, extent - 1);
  }
  return {};
}

// Infinities that are meant, for masks are made of them.
bool makes_masks(std::string_view name) {
  static constexpr std::array<std::string_view, 8> known{"aten::masked_fill", "aten::masked_fill_", "aten::full", "aten::full_like", "aten::fill_", "aten::where", "aten::empty", "aten::empty_strided"};
  return std::find(known.begin(), known.end(), name) != known.end() || name.find("empty") != std::string_view::npos || name == "aten::resize_";  // and memory that nobody has written yet
}

// What only looks at memory (as_strided, view, expand) computes nothing: the memory may not have been written yet, as that of a sum's
// result, which LibTorch makes, views and then fills.
bool computes_nothing(const at::RecordFunction& function) {
  const auto schema = function.operator_schema();
  if (!schema || schema->returns().empty()) return false;
  return std::all_of(schema->returns().begin(), schema->returns().end(), [](const c10::Argument& result) { return result.alias_info() && !result.alias_info()->isWrite(); });
}

}  // namespace

DebugWatch::DebugWatch() {
  watching = this;
  handle_ = at::addGlobalCallback(at::RecordFunctionCallback(started, ended).needsInputs(true).needsOutputs(true).scopes({at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION}));
}

DebugWatch::~DebugWatch() {
  at::removeCallback(handle_);
  watching = nullptr;
}

void DebugWatch::begin() {
  const std::lock_guard lock(mutex_);
  segments_.clear();
  segment_of_.clear();
  backward_of_.clear();
  backward_ = false;
  not_finite_.clear();
  out_of_range_.clear();
  last_.clear();
}

std::string DebugWatch::first_not_finite() const {
  const std::lock_guard lock(mutex_);
  return not_finite_;
}

std::string DebugWatch::out_of_range() const {
  const std::lock_guard lock(mutex_);
  return out_of_range_;
}

std::string DebugWatch::last_operation() const {
  const std::lock_guard lock(mutex_);
  return last_;
}

void DebugWatch::begins(const std::string& path) {
  const std::lock_guard lock(mutex_);
  segments_.push_back(path);
}

void DebugWatch::ends(const std::string& path, const std::vector<at::Tensor>&) {
  const std::lock_guard lock(mutex_);
  if (!segments_.empty() && segments_.back() == path) segments_.pop_back();
}

void DebugWatch::runs_again(const std::string& path, bool begins) {
  if (begins) this->begins(path);
  else ends(path, {});
}

std::string DebugWatch::place() const {
  const std::string& segment = segments_.empty() ? backward_of_ : segments_.back();
  return fmt::format("{}, {}", segment.empty() ? "outside of any segment" : "segment " + segment, backward_ ? "backward" : "forward");
}

std::unique_ptr<at::ObserverContext> DebugWatch::started(const at::RecordFunction& function) {
  if (watching) watching->on_start(function);
  return nullptr;
}

void DebugWatch::ended(const at::RecordFunction& function, at::ObserverContext*) {
  if (watching) watching->on_end(function);
}

void DebugWatch::on_start(const at::RecordFunction& function) {
  const at::RecordFunctionGuard unobserved(false);
  const at::NoGradGuard no_grad;
  const std::lock_guard lock(mutex_);
  if (function.scope() == at::RecordScope::BACKWARD_FUNCTION) {
    backward_ = true;
    const auto known = segment_of_.find(function.seqNr());
    backward_of_ = known == segment_of_.end() ? "" : known->second;
    return;
  }
  if (!backward_ && !segments_.empty() && function.seqNr() >= 0) segment_of_[function.seqNr()] = segments_.back();
  last_ = fmt::format("{} ({}) of {}", plain(function.name()), place(), inputs_of(function));
  if (!out_of_range_.empty()) return;
  if (const auto problem = range_problem(function); !problem.empty()) out_of_range_ = fmt::format("{} ({}): {}", plain(function.name()), place(), problem);
}

void DebugWatch::on_end(const at::RecordFunction& function) {
  if (function.scope() == at::RecordScope::BACKWARD_FUNCTION || makes_masks(function.name()) || computes_nothing(function)) return;
  const at::RecordFunctionGuard unobserved(false);
  const at::NoGradGuard no_grad;
  const std::lock_guard lock(mutex_);
  if (!not_finite_.empty()) return;
  for (const auto& value : function.outputs()) {
    if (!value.isTensor() || !value.toTensor().defined() || !value.toTensor().is_floating_point()) continue;
    const at::Tensor tensor = value.toTensor();
    const auto bad = tensor.numel() - at::isfinite(tensor).sum().item<std::int64_t>();
    if (bad == 0) continue;
    not_finite_ = fmt::format("{} ({}) gave {} with {} not finite", plain(function.name()), place(), text_of(tensor), bad == tensor.numel() ? "all values" : counted(static_cast<std::uint64_t>(bad), "value"));
    return;
  }
}

}  // namespace sluice
