// Building goes through the factories of the SDK; what a plugin throws gets the place of its table in the file.
#include "framework/train/parts.hpp"

#include <set>

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <sluice/error.hpp>
#include <sluice/torch/plugin.hpp>

#include "framework/config/tables.hpp"
#include "framework/train/capped_allocator.hpp"
#include "framework/train/lost_device.hpp"

namespace sluice {
namespace {

// What is built may point into its recipe, so recipes stay for the whole run, as plugins do.
template <class Factory, class Context> auto build(Registry& registry, const PluginConfig& config, abi::Kind kind, const Context& context) {
  static std::vector<std::unique_ptr<Recipe>> kept;
  kept.push_back(std::make_unique<Recipe>(registry, config));
  const abi::Descriptor& descriptor = kept.back()->descriptor();
  const auto* factory = static_cast<const Factory*>(descriptor.training);
  if (descriptor.kind != kind || factory == nullptr || factory->build == nullptr)
    throw Error(Code::plugin, config.plugin + " is of another kind than this table wants", "", config.place.text());
  try {
    auto made = factory->build(kept.back()->instance(), context);
    if (!made) throw Error(Code::plugin, "it built nothing");
    return made;
  } catch (const Error& error) {
    throw error.at(config.place.text() + ": " + config.plugin);
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const c10::Error& error) {
    if (says_device_is_lost(error)) throw;
    throw Error(Code::plugin, error.what_without_backtrace(), "", config.place.text() + ": " + config.plugin);
  }
}

// Convolutions read and write channels-last tensors without a conversion when their weights lie so too.
void lay_out(Model& model, bool channels_last) {
  const auto convert = [&](std::vector<NamedTensor> tensors) {
    for (auto& [name, tensor] : tensors) {
      if (tensor.dim() != 5 && tensor.dim() != 4) continue;
      const auto last = tensor.dim() == 5 ? at::MemoryFormat::ChannelsLast3d : at::MemoryFormat::ChannelsLast;
      tensor.set_data(tensor.detach().contiguous(channels_last ? last : at::MemoryFormat::Contiguous));
    }
  };
  convert(model.weights());
}

void check_names(const std::vector<NamedTensor>& tensors, std::set<std::string>& seen, const PluginConfig& config) {
  for (const auto& item : tensors)
    if (!seen.insert(item.name).second)
      throw Error(Code::plugin, "the model names two tensors '" + item.name + "'", "", config.place.text() + ": " + config.plugin);
}

}  // namespace

bool wants_channels_last(const Pipeline& pipeline) {
  const auto& pinned = pipeline.plan.layout.value;
  if (pinned != "auto") return pinned == "channels_last";
  return pipeline.model.input.layout != "contiguous";
}

std::unique_ptr<Model> build_model(Registry& registry, const Pipeline& pipeline, const std::vector<std::string>& classes, const StreamInfos& streams,
                                   at::Device device) {
  const AccountScope parameters(Account::parameters);
  at::manual_seed(static_cast<std::uint64_t>(pipeline.run.seed.value));
  ModelContext context;
  context.classes = classes;
  for (const auto& [name, info] : streams) context.streams.emplace(name, info);
  auto model = build<ModelFactory>(registry, pipeline.model.plugin, abi::Kind::model, context);
  model->move_to(device);
  lay_out(*model, wants_channels_last(pipeline));
  if (pipeline.model.batch_norm.mode == BatchNormConfig::Mode::frozen) model->batch_norms(true);
  std::set<std::string> seen;
  check_names(model->weights(), seen, pipeline.model.plugin);
  check_names(model->statistics(), seen, pipeline.model.plugin);
  return model;
}

std::unique_ptr<Loss> build_loss(Registry& registry, const Pipeline& pipeline, const std::vector<std::string>& classes) {
  return build<LossFactory>(registry, pipeline.loss, abi::Kind::loss, LossContext{classes});
}

std::unique_ptr<Optimizer> build_optimizer(Registry& registry, const Pipeline& pipeline, Model& model) {
  const AccountScope account(Account::optimizer);
  auto optimizer = build<OptimizerFactory>(registry, pipeline.optimizer.plugin, abi::Kind::optimizer, OptimizerContext{});
  optimizer->prepare(model.weights());
  return optimizer;
}

std::unique_ptr<Schedule> build_schedule(Registry& registry, const Pipeline& pipeline, std::int64_t total_steps, std::int64_t steps_per_epoch) {
  if (!pipeline.schedule) return nullptr;
  return build<ScheduleFactory>(registry, *pipeline.schedule, abi::Kind::schedule, ScheduleContext{total_steps, steps_per_epoch});
}

std::vector<NamedMetric> build_metrics(Registry& registry, const Pipeline& pipeline, const std::vector<std::string>& classes) {
  std::vector<NamedMetric> metrics;
  std::map<std::string, int> occurrences;
  for (const auto& config : pipeline.metrics) {
    const auto dot = config.plugin.find('.');
    std::string name = dot == std::string::npos ? config.plugin : config.plugin.substr(dot + 1);
    if (const int n = ++occurrences[name]; n > 1) name = fmt::format("{}#{}", name, n);
    metrics.push_back({std::move(name), build<MetricFactory>(registry, config, abi::Kind::metric, MetricContext{classes})});
  }
  return metrics;
}

std::vector<std::string> metric_names(const std::vector<NamedMetric>& metrics) {
  std::vector<std::string> names{"loss"};
  for (const auto& metric : metrics) {
    metric.metric->reset();
    for (const auto& [name, value] : metric.metric->result()) names.push_back(metric.name + "." + name);
  }
  return names;
}

}  // namespace sluice
