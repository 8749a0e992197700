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
#include "framework/train/operand_checks.hpp"

namespace sluice {
namespace {

DebugWatch* watching = nullptr;

std::string inputs_of(const at::RecordFunction& function) {
  std::string text;
  for (const auto& value : function.inputs())
    if (value.isTensor() && value.toTensor().defined()) text += (text.empty() ? "" : ", ") + type_and_shape(value.toTensor());
  return text;
}

std::string plain(std::string_view name) { return std::string(name.starts_with("aten::") ? name.substr(6) : name); }

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
  mismatch_.clear();
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

std::string DebugWatch::mismatched() const {
  const std::lock_guard lock(mutex_);
  return mismatch_;
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
  const auto note = [&](std::string& first, const std::string& problem) {
    if (first.empty() && !problem.empty()) first = fmt::format("{} ({}): {}", plain(function.name()), place(), problem);
  };
  if (out_of_range_.empty()) note(out_of_range_, range_problem(function.name(), function.inputs()));
  if (mismatch_.empty()) note(mismatch_, mismatch(function.name(), function.inputs()));
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
    not_finite_ = fmt::format("{} ({}) gave {} with {} not finite", plain(function.name()), place(), type_and_shape(tensor), bad == tensor.numel() ? "all values" : counted(static_cast<std::uint64_t>(bad), "value"));
    return;
  }
}

}  // namespace sluice
