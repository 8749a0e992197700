// loss.cross_entropy against torch.nn.functional.cross_entropy.
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "oracle.hpp"
#include "training_half.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

std::unique_ptr<Loss> loss_of(const std::vector<Setting>& settings, const LossContext& context = {}) { return build<LossFactory>(part("loss.cross_entropy", settings), context); }
Inputs labels(const std::vector<std::int64_t>& values) { return named("label", at::tensor(values).reshape({-1, 1})); }

}  // namespace

// Catches: a mean taken over all clips instead of over the weights of those that count; smoothing that ignores class weights.
TEST_CASE("sum, weight and gradient are PyTorch's, with smoothing, class weights and an ignored label") {
  const auto& data = oracle()["losses"];
  const auto all = data["labels"].get<std::vector<std::int64_t>>();
  for (const auto& expected : data["cases"]) {
    const auto class_weights = expected["class_weights"].get<std::vector<double>>();
    const auto loss = loss_of({{"smoothing", expected["smoothing"].get<double>()}, {"class_weights", class_weights}, {"ignore", data["ignore"].get<std::int64_t>()}});
    const auto type = expected["double"].get<bool>() ? at::kDouble : at::kFloat;
    const at::Tensor logits = to_tensor(data["logits"]).reshape({7, 4}).to(type).requires_grad_();
    const auto value = (*loss)(named("logits", logits), labels(all), labels(all));
    CHECK(value.sum.item<double>() == expected["sum"].get<double>());
    CHECK(value.sum.item<double>() / value.weight == doctest::Approx(expected["mean"].get<double>()).epsilon(1e-6));
    value.sum.backward();
    CHECK(difference(logits.grad(), to_tensor(expected["gradient"])) == 0.0);
  }
}

// Catches: means of means. Pieces of different weight, added up and divided once, must give the whole batch's mean.
TEST_CASE("pieces of a batch add up to the batch") {
  const auto& data = oracle()["losses"];
  const auto all = data["labels"].get<std::vector<std::int64_t>>();
  const auto loss = loss_of({{"class_weights", std::vector<double>{0.2, 1.0, 3.5, 0.0}}, {"ignore", 9}});
  const at::Tensor logits = to_tensor(data["logits"]).reshape({7, 4});
  double sum = 0, weight = 0;
  for (const auto& [first, last] : {std::pair{0, 3}, {3, 4}, {4, 7}}) {
    const auto piece = labels({all.begin() + first, all.begin() + last});
    const auto value = (*loss)(named("logits", logits.slice(0, first, last)), piece, piece);
    sum += value.sum.item<double>();
    weight += value.weight;
  }
  const auto whole = (*loss)(named("logits", logits), labels(all), labels(all));
  CHECK(weight == doctest::Approx(whole.weight).epsilon(1e-15));
  CHECK(sum / weight == doctest::Approx(data["cases"][3]["mean"].get<double>()).epsilon(1e-12));
}

// Catches: 0 / 0 where every label of a microbatch is ignored; the trainer skips a step of weight 0.
TEST_CASE("only ignored labels: weight 0, sum 0") {
  const auto loss = loss_of({{"ignore", -1}});
  const auto value = (*loss)(named("logits", at::zeros({2, 3}).requires_grad_()), labels({-1, -1}), labels({-1, -1}));
  CHECK(value.weight == 0);
  CHECK(value.sum.item<double>() == 0);
}

// Catches: a sum in half precision, which a batch of a few hundred clips makes coarse or infinite.
TEST_CASE("half-precision logits are summed in float") {
  const auto loss = loss_of({});
  const auto value = (*loss)(named("logits", at::zeros({2, 3}).to(at::kBFloat16)), labels({0, 2}), labels({0, 2}));
  const bool in_float = value.sum.scalar_type() == at::kFloat;
  CHECK(in_float);
}

// Catches: a label outside of the classes, which on a GPU ends the process and on a CPU reads beyond the tensor.
TEST_CASE("labels outside of the classes are refused, with the label in the message") {
  const auto loss = loss_of({{"ignore", 9}});
  CHECK_NOTHROW(loss->check(labels({0, 7, 9}), 8));
  CHECK_THROWS_WITH_AS(loss->check(labels({0, 8}), 8), doctest::Contains("label 8 is outside of the 8 classes (0 to 7)"), Error);
  CHECK_THROWS_WITH_AS(loss->check(labels({0, -1}), 8), doctest::Contains("has no label"), Error);
  CHECK_THROWS_WITH_AS(loss_of({})->check(labels({9}), 8), doctest::Contains("label 9"), Error);
  CHECK_THROWS_AS(loss->check(named("label", at::zeros({2, 2}).to(at::kLong)), 8), Error);
  CHECK_THROWS_AS(loss->check(named("label", at::zeros({2})), 8), Error);
}

// Catches: weights of another number of classes, which would shift silently.
TEST_CASE("class weights that do not fit the classes are refused before the first step") {
  CHECK_THROWS_WITH_AS(loss_of({{"class_weights", std::vector<double>{1, 2}}}, {class_names(3)}), doctest::Contains("2 numbers, the source 3 classes"), Error);
  CHECK_THROWS_AS(loss_of({{"class_weights", std::vector<double>{1, -2}}}), Error);
  const auto loss = loss_of({{"class_weights", std::vector<double>{1, 2}}});
  CHECK_THROWS_AS(static_cast<void>((*loss)(named("logits", at::zeros({1, 3})), labels({0}), labels({0}))), Error);
}
