// The macros of the training half. A recipe is a plain struct with fields and build(context) const:
//
//   struct TinyRecipe {
//     std::int64_t width = 8;
//     static constexpr auto fields = sluice::fields(sluice::field(&TinyRecipe::width, "width", "channels", sluice::at_least(1)));
//     std::unique_ptr<sluice::Backbone> build(const sluice::BackboneContext& context) const;
//   };
//   SLUICE_BACKBONE(TinyRecipe, "backbone.tiny");
//
// Exceptions pass to the host as they are (a c10::OutOfMemoryError stays one).
#pragma once

#include <memory>
#include <string>

#include <sluice/plugin.hpp>
#include <sluice/torch/fingerprint.hpp>
#include <sluice/torch/network.hpp>
#include <sluice/torch/training.hpp>

namespace sluice {

// What Descriptor::training points to, for each kind.
template <class Interface, class Context> struct Factory {
  std::uint32_t size = sizeof(Factory);
  std::unique_ptr<Interface> (*build)(const void* recipe, const Context& context) = nullptr;
};
using BackboneFactory = Factory<Backbone, BackboneContext>;
using HeadFactory = Factory<Head, HeadContext>;
using ModelFactory = Factory<Model, ModelContext>;
using LossFactory = Factory<Loss, LossContext>;
using OptimizerFactory = Factory<Optimizer, OptimizerContext>;
using ScheduleFactory = Factory<Schedule, ScheduleContext>;
using MetricFactory = Factory<Metric, MetricContext>;

// Builds a nested plugin, e.g. build_part<BackboneFactory>(backbone, BackboneContext{...}) in a model's build().
// Throws Code::configuration when the part is missing.
template <class F, class Context> auto build_part(const Part& part, const Context& context) {
  if (part.descriptor == nullptr || part.descriptor->training == nullptr)
    throw Error(Code::configuration, "the " + std::string(part.kind) + " is missing", "write " + std::string(part.kind) + " = { plugin = \"...\" }");
  return static_cast<const F*>(part.descriptor->training)->build(part.recipe, context);
}

namespace detail {
template <class T, class Interface, class Context, abi::Kind kind> struct TrainingCalls {
  static std::unique_ptr<Interface> build(const void* recipe, const Context& context) { return static_cast<const T*>(recipe)->build(context); }
  static constexpr Factory<Interface, Context> factory{sizeof(Factory<Interface, Context>), &build};
  static constexpr abi::Descriptor descriptor(const abi::Manifest* manifest) {
    auto out = Common<T>::descriptor(kind, manifest);
    out.training = &factory;
    return out;
  }
};
}  // namespace detail
}  // namespace sluice

#define SLUICE_TRAINING_(TYPE, NAME, INTERFACE, CONTEXT, KIND)                                                          \
  SLUICE_REGISTER((::sluice::detail::make_manifest<TYPE>(NAME, ::sluice::abi::Kind::KIND, 0u, ::sluice::fingerprint)),   \
                  (::sluice::detail::TrainingCalls<TYPE, ::sluice::INTERFACE, ::sluice::CONTEXT, ::sluice::abi::Kind::KIND>::descriptor))

#define SLUICE_BACKBONE(TYPE, NAME) SLUICE_TRAINING_(TYPE, NAME, Backbone, BackboneContext, backbone)
#define SLUICE_HEAD(TYPE, NAME) SLUICE_TRAINING_(TYPE, NAME, Head, HeadContext, head)
#define SLUICE_MODEL(TYPE, NAME) SLUICE_TRAINING_(TYPE, NAME, Model, ModelContext, model)
#define SLUICE_LOSS(TYPE, NAME) SLUICE_TRAINING_(TYPE, NAME, Loss, LossContext, loss)
#define SLUICE_OPTIMIZER(TYPE, NAME) SLUICE_TRAINING_(TYPE, NAME, Optimizer, OptimizerContext, optimizer)
#define SLUICE_SCHEDULE(TYPE, NAME) SLUICE_TRAINING_(TYPE, NAME, Schedule, ScheduleContext, schedule)
#define SLUICE_METRIC(TYPE, NAME) SLUICE_TRAINING_(TYPE, NAME, Metric, MetricContext, metric)
