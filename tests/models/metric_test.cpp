// The metrics against naive loops over random scores.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <sstream>

#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <sluice/rng.hpp>

#include "oracle.hpp"
#include "training_half.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

std::unique_ptr<Metric> metric(const std::string& name, const std::vector<Setting>& settings = {}, std::int64_t classes = 7) {
  return build<MetricFactory>(part("metric." + name, settings), MetricContext{class_names(classes)});
}

struct Batch {
  at::Tensor scores, labels;
  [[nodiscard]] Outputs outputs() const { return named("logits", scores); }
  [[nodiscard]] Inputs host() const { return named("label", labels); }
  void give_to(Metric& metric) const { metric.update(outputs(), host()); }
};

// Scores with many ties; class 5 never occurs, some clips have no label.
Batch random_batch(std::int64_t clips, std::int64_t classes, std::uint64_t seed) {
  Rng rng({seed, 0, 0, 0});
  Batch batch{at::zeros({clips, classes}), at::zeros({clips, 1}).to(at::kLong)};
  for (std::int64_t i = 0; i < clips; ++i) {
    for (std::int64_t j = 0; j < classes; ++j) batch.scores[i][j] = static_cast<double>(rng.index(4));
    auto label = rng.index(classes + 1) - 1;
    batch.labels[i][0] = label == 5 ? 4 : label;
  }
  return batch;
}

double of(const Metric& metric, const std::string& name) {
  for (const auto& [key, value] : metric.result())
    if (key == name) return value;
  FAIL("no result ", name);
  return 0;
}

// Classes from the best to the worst, equals by number: by sorting, not by counting.
std::vector<std::int64_t> order_of(const at::Tensor& scores) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(scores.size(0)));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return scores[a].item<double>() > scores[b].item<double>(); });
  return order;
}

}  // namespace

// Catches: clips without a label in the denominator, ties counted twice, a merge or reset that forgets something.
TEST_CASE("accuracy, mean class accuracy and confusion are those of a naive loop") {
  const std::int64_t classes = 7;
  const auto first = random_batch(60, classes, 1), second = random_batch(33, classes, 2);
  double clips = 0, top1 = 0, top3 = 0;
  std::vector<double> of_class(7), right_of_class(7);
  std::vector<std::vector<std::int64_t>> confusion(7, std::vector<std::int64_t>(7));
  for (const auto* batch : {&first, &second})
    for (std::int64_t i = 0; i < batch->scores.size(0); ++i) {
      const auto label = batch->labels[i][0].item<std::int64_t>();
      if (label < 0) continue;
      const auto order = order_of(batch->scores[i]);
      const auto place = std::find(order.begin(), order.end(), label) - order.begin();
      ++clips;
      top1 += place < 1;
      top3 += place < 3;
      ++of_class[static_cast<std::size_t>(label)];
      right_of_class[static_cast<std::size_t>(label)] += place < 1;
      ++confusion[static_cast<std::size_t>(label)][static_cast<std::size_t>(order[0])];
    }
  double mean_class = 0, worst = 1, seen = 0;
  for (std::size_t c = 0; c < 7; ++c)
    if (of_class[c] > 0) {
      mean_class += right_of_class[c] / of_class[c];
      worst = std::min(worst, right_of_class[c] / of_class[c]);
      ++seen;
    }
  REQUIRE(seen == 6);

  for (const bool merged : {false, true}) {
    CAPTURE(merged);
    const auto feed = [&](const std::string& name, const std::vector<Setting>& settings = {}) {
      auto whole = metric(name, settings), other = metric(name, settings);
      second.give_to(*whole);
      whole->reset();
      first.give_to(*whole);
      second.give_to(merged ? *other : *whole);
      if (merged) whole->merge(*other);
      return whole;
    };
    const auto accuracy = feed("accuracy", {{"topk", std::vector<std::int64_t>{1, 3, 7, 100}}});
    CHECK(of(*accuracy, "top1") == doctest::Approx(top1 / clips).epsilon(1e-15));
    CHECK(of(*accuracy, "top3") == doctest::Approx(top3 / clips).epsilon(1e-15));
    CHECK(of(*accuracy, "top7") == 1.0);
    CHECK(of(*accuracy, "top100") == 1.0);
    CHECK(of(*feed("mean_class"), "accuracy") == doctest::Approx(mean_class / seen).epsilon(1e-15));
    const auto matrix = feed("confusion");
    CHECK(of(*matrix, "worst_class") == doctest::Approx(worst).epsilon(1e-15));
    const auto table = matrix->table();
    for (std::size_t c = 0; c < 7; ++c) {
      const auto row = table.find("class " + std::to_string(c));
      REQUIRE(row != std::string::npos);
      std::istringstream cells(table.substr(row + 7));
      for (std::size_t said = 0; said < 7; ++said) {
        std::string cell;
        cells >> cell;
        CHECK((cell == "." ? 0 : std::stoll(cell)) == confusion[c][said]);
      }
    }
  }
}

// Catches: an untrained or broken network that scores well: all scores equal, or none of them a number.
TEST_CASE("scores that are no numbers are never right; equal ones favour the first class") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto accuracy = metric("accuracy");
  accuracy->update(named("logits", at::tensor({nan, nan, nan}).reshape({1, 3})), named("label", at::tensor({std::int64_t{2}})));
  CHECK(of(*accuracy, "top1") == 0.0);
  accuracy->reset();
  accuracy->update(named("logits", at::tensor({1.0, nan, 0.0}).reshape({1, 3})), named("label", at::tensor({std::int64_t{0}})));
  CHECK(of(*accuracy, "top1") == 1.0);
  accuracy->reset();
  accuracy->update(named("logits", at::zeros({8, 8})), named("label", at::tensor(std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 6, 7})));
  CHECK(of(*accuracy, "top1") == doctest::Approx(1.0 / 8));
}

// Catches: a division by zero after a reset, a label that writes beyond the counts, metrics merged crosswise.
TEST_CASE("nothing seen, labels outside of the classes, another metric") {
  for (const char* name : {"accuracy", "mean_class", "confusion"}) {
    const auto made = metric(name);
    for (const auto& [key, value] : made->result()) CHECK(value == 0.0);
    CHECK(made->table().empty());
    CHECK_THROWS_WITH_AS(made->update(named("logits", at::zeros({1, 3})), named("label", at::tensor({std::int64_t{3}}))), doctest::Contains("label 3"), Error);
    CHECK_THROWS_AS(made->update(named("logits", at::zeros({2, 3})), named("label", at::tensor({std::int64_t{1}}))), Error);
  }
  CHECK_THROWS_AS(metric("accuracy")->merge(*metric("confusion")), Error);
  CHECK_THROWS_AS(static_cast<void>(part("metric.accuracy", {{"topk", std::vector<std::int64_t>{}}})), Error);
  CHECK_THROWS_AS(static_cast<void>(part("metric.accuracy", {{"topk", std::vector<std::int64_t>{0}}})), Error);
}

// Catches: a table of 400 columns.
TEST_CASE("with many classes the confusion table lists the most frequent mistakes") {
  const auto made = metric("confusion", {{"largest", 3}}, 5);
  at::Tensor scores = at::zeros({3, 5});
  scores[0][4] = 1.0;
  scores[1][4] = 1.0;
  scores[2][2] = 1.0;
  made->update(named("logits", scores), named("label", at::tensor(std::vector<std::int64_t>{1, 1, 0})));
  const auto table = made->table();
  CHECK(table.find("2  class 1 -> class 4") != std::string::npos);
  CHECK(table.find("2  class 1 -> class 4") < table.find("1  class 0 -> class 2"));
}
