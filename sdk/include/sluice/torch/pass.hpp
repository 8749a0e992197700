// Pass: one forward (and backward) of a microbatch, as a model sees it. What must not depend on the plan goes through it.
#pragma once

#include <functional>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

namespace sluice {

class Pass {
 public:
  using Tensors = std::vector<at::Tensor>;
  using Function = std::function<Tensors(const Tensors&)>;

  virtual ~Pass() = default;

  [[nodiscard]] virtual bool training() const = 0;

  // Marks a piece of the model that the plan may run again in the backward pass (checkpointing) or offload:
  //   x = pass.segment("layer2", [layer = layer2_](const at::Tensor& x) { return layer->forward(x); }, x);
  // `function` may be called again after forward() has returned: it captures by value only. It takes and returns one
  // tensor, or std::vector<at::Tensor> for several.
  template <class F, class... Rest>
  auto segment(std::string_view name, F function, const at::Tensor& first, const Rest&... rest) {
    static_assert((std::is_same_v<Rest, at::Tensor> && ...), "a segment's inputs are tensors");
    using Result = std::invoke_result_t<F&, const at::Tensor&, const Rest&...>;
    Function erased = [function = std::move(function)](const Tensors& in) mutable {
      return unpack(function, in, std::index_sequence_for<at::Tensor, Rest...>{});
    };
    Tensors out = run_segment(name, std::move(erased), Tensors{first, rest...});
    if constexpr (std::is_same_v<Result, Tensors>) return out;
    else return std::move(out.front());
  }

  // Zeroes elements with probability p and scales the others by 1 / (1 - p), in training only. The draw depends on
  // (sample, segment, call) alone, so microbatches, workers, recomputation and resume do not change it. Axis 0 of x is the clip.
  [[nodiscard]] at::Tensor dropout(const at::Tensor& x, double p) { return run_dropout(x, p, false); }
  // The same for whole samples: stochastic depth (Huang et al. 2016).
  [[nodiscard]] at::Tensor drop_path(const at::Tensor& x, double p) { return run_dropout(x, p, true); }

 protected:
  virtual Tensors run_segment(std::string_view name, Function function, Tensors inputs) = 0;
  virtual at::Tensor run_dropout(const at::Tensor& x, double p, bool whole_sample) = 0;

 private:
  template <class F, std::size_t... I> static Tensors unpack(F& function, const Tensors& in, std::index_sequence<I...>) {
    using Result = std::invoke_result_t<F&, decltype(in[I])...>;
    if constexpr (std::is_same_v<Result, Tensors>) return function(in[I]...);
    else return Tensors{function(in[I]...)};
  }
};

}  // namespace sluice
