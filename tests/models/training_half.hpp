// Training plugins for tests: built through the plugin files' own tables, and a Pass that runs everything straight away.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/equal.h>
#include <c10/util/Logging.h>
#include <sluice/torch/plugin.hpp>

#include "../support/plugin_host.hpp"

#include <doctest/doctest.h>  // after LibTorch's log, which has a CHECK of its own

namespace sluice::testing {

// Runs segments at once and remembers them; dropout multiplies by a mask that the test gives.
class StraightPass : public Pass {
 public:
  explicit StraightPass(bool training = true) : training_(training) {}
  [[nodiscard]] bool training() const override { return training_; }

  std::vector<std::string> segments;
  std::vector<double> dropped;  // the probabilities that were asked for
  at::Tensor mask;              // applied by dropout where defined

  // Runs each segment again as a checkpoint would, after forward() has returned: true when all outputs are bit-equal.
  [[nodiscard]] bool same_again() {
    for (auto& [function, in, out] : replay_) {
      const auto again = function(in);
      for (std::size_t i = 0; i < out.size(); ++i)
        if (!at::equal(again.at(i), out[i])) return false;
    }
    return true;
  }

 protected:
  Tensors run_segment(std::string_view name, Function function, Tensors inputs) override {
    segments.emplace_back(name);
    Tensors out = function(inputs);
    if (keep) replay_.push_back({std::move(function), detached(inputs), detached(out)});
    return out;
  }
  at::Tensor run_dropout(const at::Tensor& x, double p, bool) override {
    dropped.push_back(p);
    return mask.defined() ? x * mask : x;
  }

 public:
  bool keep = false;  // what same_again() needs: copies of all that goes in and out

 private:
  struct Replay {
    Function function;
    Tensors in, out;
  };
  static Tensors detached(const Tensors& tensors) {
    Tensors out;
    for (const auto& tensor : tensors) out.push_back(tensor.detach().clone());
    return out;
  }
  bool training_;
  std::vector<Replay> replay_;
};

// The recipe of a name that may live in a file of another name: part("backbone.mc3_18", {}, "backbone.r3d").
inline Recipe part(const std::string& name, const std::vector<Setting>& settings = {}, const std::string& file = {}) {
  return Plugin(built_plugin(file.empty() ? name : file)).recipe(name, settings);
}

// Builds what a recipe describes: build<LossFactory>(part("loss.cross_entropy"), LossContext{}).
template <class F, class Context> auto build(const Recipe& recipe, const Context& context) {
  return static_cast<const F*>(recipe.descriptor().training)->build(recipe.raw(), context);
}

inline std::vector<std::string> class_names(std::int64_t count) {
  std::vector<std::string> names;
  for (std::int64_t i = 0; i < count; ++i) names.push_back("class " + std::to_string(i));
  return names;
}

// backbone + head.linear as model.recognizer joins them.
inline std::unique_ptr<Model> recognizer(const Recipe& backbone, std::int64_t classes, const std::vector<Setting>& head = {}) {
  const auto top = part("head.linear", head);
  return build<ModelFactory>(part("model.recognizer", {{"backbone", backbone}, {"head", top}}), ModelContext{class_names(classes), {}});
}

inline Inputs named(const std::string& name, const at::Tensor& tensor) {
  Inputs inputs;
  inputs.set(name, tensor);
  return inputs;
}

}  // namespace sluice::testing
