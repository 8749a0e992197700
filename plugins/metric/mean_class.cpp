// Mean class accuracy: the accuracy of each class that occurs, averaged, so that a rare class counts as much as a common one.
#include <memory>
#include <vector>

#include "predictions.hpp"

namespace {

struct Recipe : sluice::metric::Streams {
  static constexpr std::string_view help = "accuracy of each class, averaged over the classes that occur";
  static constexpr auto fields = stream_fields;
  std::unique_ptr<sluice::Metric> build(const sluice::MetricContext& context) const;
};

class MeanClass : public sluice::Metric {
 public:
  explicit MeanClass(const Recipe& recipe) : recipe_(recipe) {}

  void update(const sluice::Outputs& outputs, const sluice::Inputs& host) override {
    sluice::metric::for_each_clip(recipe_, outputs, host, [&](std::span<const double> scores, std::int64_t label) {
      if (counts_.size() < scores.size()) counts_.resize(scores.size());
      auto& count = counts_[static_cast<std::size_t>(label)];
      ++count.clips;
      count.right += sluice::metric::best_of(scores) == label ? 1 : 0;
    });
  }
  void merge(const sluice::Metric& other) override {
    const auto& same = sluice::metric::same_kind<MeanClass>(other);
    if (counts_.size() < same.counts_.size()) counts_.resize(same.counts_.size());
    for (std::size_t i = 0; i < same.counts_.size(); ++i) {
      counts_[i].clips += same.counts_[i].clips;
      counts_[i].right += same.counts_[i].right;
    }
  }
  void reset() override { counts_.clear(); }
  std::vector<std::pair<std::string, double>> result() const override {
    double sum = 0, classes = 0;
    for (const auto& count : counts_) {
      if (count.clips == 0) continue;
      sum += static_cast<double>(count.right) / static_cast<double>(count.clips);
      ++classes;
    }
    return {{"accuracy", classes > 0 ? sum / classes : 0.0}};
  }

 private:
  struct Count {
    std::int64_t clips = 0, right = 0;
  };
  sluice::metric::Streams recipe_;
  std::vector<Count> counts_;  // by class
};

std::unique_ptr<sluice::Metric> Recipe::build(const sluice::MetricContext&) const { return std::make_unique<MeanClass>(*this); }

}  // namespace

SLUICE_METRIC(Recipe, "metric.mean_class");
