// Two tables of operators, and a few that are like no other.
#include "framework/train/operand_checks.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <fmt/format.h>

namespace sluice {
namespace {

using Inputs = c10::ArrayRef<const c10::IValue>;

std::optional<at::Tensor> tensor_at(Inputs inputs, std::size_t place) {
  if (place >= inputs.size() || !inputs[place].isTensor() || !inputs[place].toTensor().defined()) return std::nullopt;
  return inputs[place].toTensor();
}
std::optional<std::int64_t> number_at(Inputs inputs, std::size_t place) {
  return place < inputs.size() && inputs[place].isInt() ? std::optional(inputs[place].toInt()) : std::nullopt;
}

std::string outside(std::int64_t index, std::int64_t extent) { return fmt::format("index {} of {}, which are 0 to {}", index, extent, extent - 1); }

// `from_behind`: -1 is the last.
std::string check_indices(const at::Tensor& indices, std::int64_t extent, bool from_behind = false) {
  if (indices.numel() == 0 || indices.is_floating_point() || indices.scalar_type() == at::kBool) return {};
  const auto least = indices.min().item<std::int64_t>(), most = indices.max().item<std::int64_t>();
  if (least < (from_behind ? -extent : 0)) return outside(least, extent);
  return most >= extent ? outside(most, extent) : std::string();
}

enum class Over { first, axis_at_1, classes, elements };
struct Indexed {
  std::string_view name;
  std::size_t table, indices;
  Over over;
  bool from_behind = false;
  std::size_t ignored = 0;  // the place of an index that does not count; 0: none
};
constexpr std::array<Indexed, 28> indexed{{{"embedding", 0, 1, Over::first},
                                           {"embedding_bag", 0, 1, Over::first},
                                           {"index_select", 0, 2, Over::axis_at_1},
                                           {"gather", 0, 2, Over::axis_at_1},
                                           {"scatter", 0, 2, Over::axis_at_1},
                                           {"scatter_", 0, 2, Over::axis_at_1},
                                           {"scatter_add", 0, 2, Over::axis_at_1},
                                           {"scatter_add_", 0, 2, Over::axis_at_1},
                                           {"scatter_reduce", 0, 2, Over::axis_at_1},
                                           {"scatter_reduce_", 0, 2, Over::axis_at_1},
                                           {"index_add", 0, 2, Over::axis_at_1},
                                           {"index_add_", 0, 2, Over::axis_at_1},
                                           {"index_copy", 0, 2, Over::axis_at_1},
                                           {"index_copy_", 0, 2, Over::axis_at_1},
                                           {"index_reduce", 0, 2, Over::axis_at_1},
                                           {"index_reduce_", 0, 2, Over::axis_at_1},
                                           {"index_fill", 0, 2, Over::axis_at_1, true},
                                           {"index_fill_", 0, 2, Over::axis_at_1, true},
                                           {"take", 0, 1, Over::elements, true},
                                           {"put", 0, 1, Over::elements, true},
                                           {"put_", 0, 1, Over::elements, true},
                                           {"multi_margin_loss", 0, 1, Over::classes},
                                           {"cross_entropy_loss", 0, 1, Over::classes, false, 4},
                                           {"nll_loss", 0, 1, Over::classes, false, 4},
                                           {"nll_loss2d", 0, 1, Over::classes, false, 4},
                                           {"nll_loss_nd", 0, 1, Over::classes, false, 4},
                                           {"nll_loss_forward", 0, 1, Over::classes, false, 4},
                                           {"nll_loss2d_forward", 0, 1, Over::classes, false, 4}}};

std::string check_table(const Indexed& operation, Inputs inputs) {
  const auto table = tensor_at(inputs, operation.table), all = tensor_at(inputs, operation.indices);
  if (!table || !all || table->dim() == 0 || all->numel() == 0 || all->is_floating_point()) return {};
  at::Tensor indices = all->reshape({-1});
  if (const auto ignored = operation.ignored > 0 ? number_at(inputs, operation.ignored) : std::nullopt) indices = indices.masked_select(indices.ne(*ignored));
  switch (operation.over) {
    case Over::first: return check_indices(indices, table->size(0));
    case Over::classes: return check_indices(indices, table->size(std::min<std::int64_t>(1, table->dim() - 1)));
    case Over::elements: return check_indices(indices, table->numel(), operation.from_behind);
    case Over::axis_at_1: break;
  }
  const auto axis = number_at(inputs, 1);
  return axis && *axis >= -table->dim() && *axis < table->dim() ? check_indices(indices, table->size(*axis), operation.from_behind) : std::string();
}

// x[a, :, b]: a list with a tensor, or nothing, for each axis; a mask stands for as many as it has itself.
std::string check_index_list(Inputs inputs) {
  const auto table = tensor_at(inputs, 0);
  if (!table || inputs.size() < 2 || !inputs[1].isList()) return {};
  std::int64_t axis = 0;
  for (const c10::IValue& item : inputs[1].toListRef()) {
    const auto indices = item.isTensor() && item.toTensor().defined() ? std::optional(item.toTensor()) : std::nullopt;
    const bool mask = indices && (indices->scalar_type() == at::kBool || indices->scalar_type() == at::kByte);
    if (indices && !mask && axis < table->dim())
      if (auto problem = check_indices(*indices, table->size(axis), true); !problem.empty()) return problem;
    axis += mask ? indices->dim() : 1;
  }
  return {};
}

std::vector<std::int64_t> lengths_at(Inputs inputs, std::size_t place) {
  if (inputs[place].isIntList()) return inputs[place].toIntVector();
  std::vector<std::int64_t> all;
  if (const auto lengths = tensor_at(inputs, place)) {
    const at::Tensor flat = lengths->reshape({-1}).to(at::kCPU, at::kLong);
    all.assign(flat.const_data_ptr<std::int64_t>(), flat.const_data_ptr<std::int64_t>() + flat.numel());
  }
  return all;
}

// What it does not look at itself on the CPU: an id beyond the classes is silently another number.
std::string check_ctc(Inputs inputs) {
  const auto scores = tensor_at(inputs, 0), targets = tensor_at(inputs, 1);
  const auto blank = number_at(inputs, 4);
  if (!scores || !targets || !blank || scores->dim() < 2 || targets->dim() > 2) return {};
  const std::int64_t steps = scores->size(0), classes = scores->size(-1);
  const auto of_scores = lengths_at(inputs, 2), of_targets = lengths_at(inputs, 3);
  if (of_scores.size() != of_targets.size()) return fmt::format("{} lengths of scores and {} of targets", of_scores.size(), of_targets.size());
  const at::Tensor ids = targets->to(at::kCPU, at::kLong).contiguous();
  std::int64_t from = 0;
  for (std::size_t clip = 0; clip < of_targets.size(); ++clip) {
    const std::int64_t begin = ids.dim() == 2 ? static_cast<std::int64_t>(clip) * ids.size(1) : from, room = ids.dim() == 2 ? ids.size(1) : ids.numel() - from;
    if (of_scores[clip] < 0 || of_scores[clip] > steps) return fmt::format("clip {} of the batch has {} steps of {}", clip, of_scores[clip], steps);
    if (of_targets[clip] < 0 || of_targets[clip] > room || begin + of_targets[clip] > ids.numel()) return fmt::format("clip {} of the batch has {} targets of {}", clip, of_targets[clip], room);
    from += of_targets[clip];
    for (std::int64_t i = 0; i < of_targets[clip]; ++i) {
      const auto id = ids.const_data_ptr<std::int64_t>()[begin + i];
      if (id < 0 || id >= classes) return outside(id, classes);
      if (id == *blank) return fmt::format("clip {} of the batch has the blank, {}, among its targets", clip, id);
    }
  }
  return {};
}

std::string_view plain(std::string_view name) { return name.starts_with("aten::") ? name.substr(6) : name; }
template <std::size_t N> bool one_of(std::string_view name, const std::array<std::string_view, N>& names) { return std::find(names.begin(), names.end(), name) != names.end(); }

// Under autocast types are made equal.
std::string check_types(const at::Tensor& a, const at::Tensor& b) {
  if (!a.is_floating_point() || !b.is_floating_point() || a.scalar_type() == b.scalar_type() || at::autocast::is_autocast_enabled(a.device().type())) return {};
  return fmt::format("{} meets {}", c10::toString(a.scalar_type()), c10::toString(b.scalar_type()));
}

std::string check_product(const at::Tensor& a, const at::Tensor& b) {
  if (a.dim() == 0 || b.dim() == 0) return {};
  const auto rows = b.dim() == 1 ? b.size(0) : b.size(-2);
  return a.size(-1) == rows ? check_types(a, b) : fmt::format("rows of {} meet columns of {}", a.size(-1), rows);
}

std::string check_linear(const at::Tensor& in, const at::Tensor& weight) {
  if (in.dim() == 0 || weight.dim() == 0) return {};
  return in.size(-1) == weight.size(-1) ? check_types(in, weight) : fmt::format("{} features meet a weight for {}", in.size(-1), weight.size(-1));
}

std::string check_convolution(std::string_view name, Inputs inputs, const at::Tensor& in, const at::Tensor& weight) {
  const bool general = name == "convolution" || name == "_convolution";
  const bool transposed = general ? inputs.size() > 6 && inputs[6].isBool() && inputs[6].toBool() : name.find("transpose") != std::string_view::npos;
  const std::size_t groups_at = general ? 8 : name.find("transpose") != std::string_view::npos ? 7 : 6;
  if (in.dim() + 1 < weight.dim() || in.dim() > weight.dim() || weight.dim() < 3 || in.dim() < 2) return fmt::format("an input of {} axes meets a kernel of {}", in.dim(), weight.dim());
  const auto channels = in.dim() == weight.dim() ? in.size(1) : in.size(0);
  const auto wanted = transposed ? weight.size(0) : weight.size(1) * number_at(inputs, groups_at).value_or(1);
  return channels == wanted ? check_types(in, weight) : fmt::format("{} channels meet a kernel for {}", channels, wanted);
}

std::string check_broadcast(const at::Tensor& a, const at::Tensor& b) {
  for (std::int64_t axis = 1; axis <= std::min(a.dim(), b.dim()); ++axis)
    if (a.size(-axis) != b.size(-axis) && a.size(-axis) != 1 && b.size(-axis) != 1) return fmt::format("axis -{} is of {} here and of {} there", axis, a.size(-axis), b.size(-axis));
  return {};
}

std::string check_cat(Inputs inputs) {
  if (!inputs[0].isTensorList()) return {};
  auto all = inputs[0].toTensorVector();
  const auto axis = number_at(inputs, 1);
  std::erase_if(all, [](const at::Tensor& part) { return part.dim() == 1 && part.numel() == 0; });
  for (const auto& part : all) {
    if (part.dim() != all.front().dim()) return fmt::format("{} does not go with {}", type_and_shape(part), type_and_shape(all.front()));
    for (std::int64_t i = 0; axis && i < part.dim(); ++i)
      if (i != (*axis < 0 ? *axis + part.dim() : *axis) && part.size(i) != all.front().size(i)) return fmt::format("{} does not go with {} along axis {}", type_and_shape(part), type_and_shape(all.front()), *axis);
  }
  return {};
}

}  // namespace

std::string type_and_shape(const at::Tensor& tensor) {
  std::string sizes;
  for (const auto size : tensor.sizes()) sizes += (sizes.empty() ? "" : "x") + std::to_string(size);
  return fmt::format("{} [{}]", c10::toString(tensor.scalar_type()), sizes);
}

std::string range_problem(std::string_view operation, Inputs inputs) {
  const std::string_view name = plain(operation);
  if (name == "ctc_loss" && inputs.size() > 4) return check_ctc(inputs);
  if (one_of<5>(name, {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"})) return check_index_list(inputs);
  if (name == "one_hot") {
    const auto indices = tensor_at(inputs, 0);
    const auto classes = number_at(inputs, 1);
    return indices && classes && *classes > 0 ? check_indices(*indices, *classes) : std::string();
  }
  const auto* known = std::find_if(indexed.begin(), indexed.end(), [&](const Indexed& item) { return item.name == name; });
  return known == indexed.end() ? std::string() : check_table(*known, inputs);
}

std::string mismatch(std::string_view operation, Inputs inputs) {
  const std::string_view name = plain(operation);
  if (inputs.empty()) return {};
  if (name == "cat" || name == "concat") return check_cat(inputs);
  const auto first = tensor_at(inputs, 0), second = tensor_at(inputs, 1), third = tensor_at(inputs, 2);
  if (one_of<2>(name, {"addmm", "baddbmm"})) return second && third ? check_product(*second, *third) : std::string();
  if (!first || !second) return {};
  if (one_of<4>(name, {"matmul", "mm", "bmm", "mv"})) return check_product(*first, *second);
  if (name == "linear") return check_linear(*first, *second);
  if (one_of<8>(name, {"convolution", "_convolution", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"})) return check_convolution(name, inputs, *first, *second);
  if (one_of<10>(name, {"add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_", "maximum", "minimum"})) return check_broadcast(*first, *second);
  return {};
}

}  // namespace sluice
