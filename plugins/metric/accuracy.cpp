// Top-k accuracy: how often the right class is among the k best.
#include <memory>
#include <vector>

#include "predictions.hpp"

namespace {

struct Recipe : sluice::metric::Streams {
  static constexpr std::string_view help = "how often the right class is among the k best";
  std::vector<std::int64_t> topk = {1};
  static constexpr auto fields = std::tuple_cat(
      sluice::fields(sluice::field(&Recipe::topk, "topk", "values of k, e.g. [1, 5]; with k classes or fewer the result is 1", sluice::at_least(1))), stream_fields);

  void check() const {
    if (topk.empty()) throw sluice::Error(sluice::Code::configuration, "topk is empty", "e.g. topk = [1, 5]");
  }
  std::unique_ptr<sluice::Metric> build(const sluice::MetricContext& context) const;
};

class Accuracy : public sluice::Metric {
 public:
  explicit Accuracy(const Recipe& recipe) : recipe_(recipe), right_(recipe.topk.size()) {}

  void update(const sluice::Outputs& outputs, const sluice::Inputs& host) override {
    sluice::metric::for_each_clip(recipe_, outputs, host, [&](std::span<const double> scores, std::int64_t label) {
      const auto rank = sluice::metric::rank_of(scores, label);
      for (std::size_t i = 0; i < right_.size(); ++i) right_[i] += rank < recipe_.topk[i] ? 1 : 0;
      ++clips_;
    });
  }
  void merge(const sluice::Metric& other) override {
    const auto& same = sluice::metric::same_kind<Accuracy>(other);
    for (std::size_t i = 0; i < right_.size(); ++i) right_[i] += same.right_.at(i);
    clips_ += same.clips_;
  }
  void reset() override {
    right_.assign(right_.size(), 0);
    clips_ = 0;
  }
  std::vector<std::pair<std::string, double>> result() const override {
    std::vector<std::pair<std::string, double>> out;
    for (std::size_t i = 0; i < right_.size(); ++i)
      out.emplace_back("top" + std::to_string(recipe_.topk[i]), clips_ > 0 ? static_cast<double>(right_[i]) / static_cast<double>(clips_) : 0.0);
    return out;
  }

 private:
  Recipe recipe_;
  std::vector<std::int64_t> right_;
  std::int64_t clips_ = 0;
};

std::unique_ptr<sluice::Metric> Recipe::build(const sluice::MetricContext&) const {
  check();
  return std::make_unique<Accuracy>(*this);
}

}  // namespace

SLUICE_METRIC(Recipe, "metric.accuracy");
