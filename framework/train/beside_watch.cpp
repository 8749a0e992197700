// The dispatcher knows which operators draw; whether one does so this time, its arguments say.
#include "framework/train/beside_watch.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/enum_tag.h>
#include <fmt/format.h>
#include <torch/nn/modules/dropout.h>

#include <sluice/torch/parts.hpp>

#include "framework/base/strings.hpp"

namespace sluice {
namespace {

BesideWatch* watching = nullptr;

// Norms are made of one another: the outermost is what the model called. Of the thread.
thread_local int norms_open = 0;

std::string_view plain(std::string_view name) { return name.starts_with("aten::") ? name.substr(6) : name; }

bool is_norm(std::string_view name) {
  constexpr std::array<std::string_view, 4> kinds{"batch_norm", "instance_norm", "group_norm", "layer_norm"};
  return name.find("backward") == std::string_view::npos && std::any_of(kinds.begin(), kinds.end(), [&](std::string_view kind) { return name.find(kind) != std::string_view::npos; });
}

const c10::IValue* argument(const c10::FunctionSchema& schema, c10::ArrayRef<const c10::IValue> inputs, std::initializer_list<std::string_view> names) {
  const auto& arguments = schema.arguments();
  for (std::size_t i = 0; i < std::min(arguments.size(), inputs.size()); ++i)
    if (std::find(names.begin(), names.end(), arguments[i].name()) != names.end()) return &inputs[i];
  return nullptr;
}

bool is_off(const c10::IValue* flag) { return flag && flag->isBool() && !flag->toBool(); }

// A dropout in evaluation, or with probability 0, draws nothing, nor does attention or a recurrent layer without dropout; some carry the
// tag for what they only might do.
bool draws(const c10::OperatorHandle& operation, c10::ArrayRef<const c10::IValue> inputs) {
  if (!operation.hasTag(at::Tag::nondeterministic_seeded)) return false;
  const std::string_view name = plain(operation.operator_name().name);
  for (const std::string_view never : {"_fused_sdp_choice", "_nested_tensor_softmax_with_shape", "_flash_attention_forward_no_dropout_inplace"})
    if (name == never) return false;
  const auto& schema = operation.schema();
  if (is_off(argument(schema, inputs, {"train", "training"}))) return false;
  const bool of_all = name.starts_with("bernoulli") || name.starts_with("geometric") || name.starts_with("binomial");  // whose p is no dropout's
  const c10::IValue* p = of_all ? nullptr : argument(schema, inputs, {"p", "dropout_p", "dropout"});
  return !(p && p->isDouble() && p->toDouble() == 0);
}

// Whether a norm that the model calls takes its statistics over the batch.
bool over_batch(const c10::OperatorHandle& operation, c10::ArrayRef<const c10::IValue> inputs) {
  const std::string_view name = plain(operation.operator_name().name);
  if (!is_norm(name) || name.find("batch_norm") == std::string_view::npos || name.find("no_training") != std::string_view::npos || name == "_batch_norm_no_update" || name == "batch_norm_elemt") return false;
  return !is_off(argument(operation.schema(), inputs, {"train", "training"}));
}

template <class... Layers> bool is_any_that_draws(torch::nn::Module& module) {
  const auto draws = [](const auto* layer) { return layer && layer->options.p() > 0; };
  return (draws(dynamic_cast<Layers*>(&module)) || ...);
}

// Names of a network's dropout layers, where it is made of modules or of parts that are.
std::vector<std::string> dropout_layers(Network& network) {
  std::vector<std::string> names;
  if (auto* module = dynamic_cast<torch::nn::Module*>(&network))
    for (const auto& item : module->named_modules({}, false))
      if (is_any_that_draws<torch::nn::DropoutImpl, torch::nn::Dropout2dImpl, torch::nn::Dropout3dImpl, torch::nn::AlphaDropoutImpl, torch::nn::FeatureAlphaDropoutImpl>(*item.value())) names.push_back(item.key());
  if (auto* whole = dynamic_cast<WithParts*>(&network))
    for (const auto& [prefix, part] : whole->parts())
      for (const auto& name : dropout_layers(*part)) names.push_back(prefix.empty() ? name : prefix + "." + name);
  return names;
}

struct InNorm final : at::ObserverContext {};

}  // namespace

BesideWatch::BesideWatch(Model& model, SegmentObserver* next) : model_(model), next_(next) {
  watching = this;
  norms_open = 0;
  handle_ = at::addGlobalCallback(at::RecordFunctionCallback(started, ended).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
}

BesideWatch::~BesideWatch() {
  at::removeCallback(handle_);
  watching = nullptr;
}

BesidePass BesideWatch::seen() const {
  const std::lock_guard lock(mutex_);
  return seen_;
}

std::unique_ptr<at::ObserverContext> BesideWatch::started(const at::RecordFunction& function) {
  if (!watching) return nullptr;
  watching->look_at(function);
  if (!is_norm(function.name())) return nullptr;
  ++norms_open;
  return std::make_unique<InNorm>();
}

void BesideWatch::ended(const at::RecordFunction&, at::ObserverContext* context) {
  if (context && norms_open > 0) --norms_open;
}

void BesideWatch::look_at(const at::RecordFunction& function) {
  const auto name = function.operator_name();
  if (!name) return;
  const auto operation = c10::Dispatcher::singleton().findSchema(*name);
  if (!operation) return;
  const std::lock_guard lock(mutex_);
  if (seen_.draws.empty() && draws(*operation, function.inputs())) {
    seen_.draws = place(plain(name->name));
    const auto layers = name->name.find("dropout") == std::string::npos ? std::vector<std::string>{} : dropout_layers(model_);
    if (!layers.empty()) seen_.draws += fmt::format(" (layer {})", join(layers, " or "));
  }
  if (seen_.norm.empty() && norms_open == 0 && over_batch(*operation, function.inputs())) {
    seen_.norm = place(plain(name->name));
    for (const std::string_view known_by : {"running_mean", "weight", "bias"})
      if (const auto* tensor = argument(operation->schema(), function.inputs(), {known_by}))
        if (const std::string known = name_of(*tensor); !known.empty()) {
          seen_.norm += fmt::format(" ({})", known);
          break;
        }
  }
}

std::string BesideWatch::place(std::string_view operation) const {
  return segments_.empty() ? fmt::format("{} outside of any segment", operation) : fmt::format("{} of the segment {}", operation, in_quotes(segments_.back()));
}

// Of the model's own tensors; empty where it is none of them.
std::string BesideWatch::name_of(const c10::IValue& value) const {
  if (!value.isTensor() || !value.toTensor().defined() || !value.toTensor().has_storage()) return {};
  const auto* storage = value.toTensor().storage().unsafeGetStorageImpl();
  for (const auto& list : {model_.statistics(), model_.weights()})
    for (const auto& item : list)
      if (item.tensor.has_storage() && item.tensor.storage().unsafeGetStorageImpl() == storage) return item.name;
  return {};
}

void BesideWatch::begins(const std::string& path) {
  {
    const std::lock_guard lock(mutex_);
    segments_.push_back(path);
  }
  if (next_) next_->begins(path);
}

void BesideWatch::ends(const std::string& path, const std::vector<at::Tensor>& outputs) {
  {
    const std::lock_guard lock(mutex_);
    if (!segments_.empty() && segments_.back() == path) segments_.pop_back();
  }
  if (next_) next_->ends(path, outputs);
}

void BesideWatch::saves_output(const std::string& path) {
  if (next_) next_->saves_output(path);
}

void BesideWatch::runs_again(const std::string& path, bool begins) {
  {
    const std::lock_guard lock(mutex_);
    if (begins) segments_.push_back(path);
    else if (!segments_.empty() && segments_.back() == path) segments_.pop_back();
  }
  if (next_) next_->runs_again(path, begins);
}

void BesideWatch::comes_back(const std::string& path) {
  if (next_) next_->comes_back(path);
}

}  // namespace sluice
