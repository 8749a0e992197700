// Confusion matrix: which class was taken for which. A table at the end of the run; as a number, the accuracy of the worst class.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "predictions.hpp"

namespace {

struct Recipe : sluice::metric::Streams {
  static constexpr std::string_view help = "which class was taken for which, as a table; logs the accuracy of the worst class";
  std::int64_t largest = 24;
  static constexpr auto fields = std::tuple_cat(
      sluice::fields(sluice::field(&Recipe::largest, "largest", "with more classes than this the table lists the most frequent mistakes instead", sluice::at_least(0))),
      stream_fields);
  std::unique_ptr<sluice::Metric> build(const sluice::MetricContext& context) const;
};

std::string padded(const std::string& text, std::size_t width, bool right) {
  // Width in characters of a terminal: continuation bytes of UTF-8 take none.
  const auto shown = static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
  const std::string space(shown < width ? width - shown : 0, ' ');
  return right ? space + text : text + space;
}

class Confusion : public sluice::Metric {
 public:
  Confusion(const Recipe& recipe, std::vector<std::string> names) : recipe_(recipe), names_(std::move(names)) {}

  void update(const sluice::Outputs& outputs, const sluice::Inputs& host) override {
    sluice::metric::for_each_clip(recipe_, outputs, host, [&](std::span<const double> scores, std::int64_t label) {
      grow(std::ssize(scores));
      ++at(label, sluice::metric::best_of(scores));
    });
  }
  void merge(const sluice::Metric& other) override {
    const auto& same = sluice::metric::same_kind<Confusion>(other);
    grow(same.classes_);
    for (std::int64_t label = 0; label < same.classes_; ++label)
      for (std::int64_t said = 0; said < same.classes_; ++said) at(label, said) += same.at(label, said);
  }
  void reset() override {
    classes_ = 0;
    counts_.clear();
  }
  std::vector<std::pair<std::string, double>> result() const override {
    double worst = 1;
    bool any = false;
    for (std::int64_t label = 0; label < classes_; ++label)
      if (const auto clips = row(label); clips > 0) {
        worst = std::min(worst, static_cast<double>(at(label, label)) / static_cast<double>(clips));
        any = true;
      }
    return {{"worst_class", any ? worst : 0.0}};
  }
  std::string table() const override {
    if (classes_ == 0) return {};
    return classes_ <= recipe_.largest ? matrix() : mistakes();
  }

 private:
  // Counts are kept row by row, a row a label; more classes keep what was counted.
  void grow(std::int64_t classes) {
    if (classes <= classes_) return;
    std::vector<std::int64_t> larger(static_cast<std::size_t>(classes * classes));
    for (std::int64_t label = 0; label < classes_; ++label)
      for (std::int64_t said = 0; said < classes_; ++said) larger[static_cast<std::size_t>(label * classes + said)] = at(label, said);
    counts_ = std::move(larger);
    classes_ = classes;
  }
  [[nodiscard]] std::int64_t& at(std::int64_t label, std::int64_t said) { return counts_[static_cast<std::size_t>(label * classes_ + said)]; }
  [[nodiscard]] std::int64_t at(std::int64_t label, std::int64_t said) const { return counts_[static_cast<std::size_t>(label * classes_ + said)]; }
  [[nodiscard]] std::int64_t row(std::int64_t label) const {
    std::int64_t sum = 0;
    for (std::int64_t said = 0; said < classes_; ++said) sum += at(label, said);
    return sum;
  }
  [[nodiscard]] std::string name(std::int64_t label) const {
    return label < std::ssize(names_) ? names_[static_cast<std::size_t>(label)] : std::to_string(label);
  }

  [[nodiscard]] std::string matrix() const {
    std::size_t widest = 5, cell = 3;
    for (std::int64_t i = 0; i < classes_; ++i) {
      widest = std::max(widest, name(i).size());
      for (std::int64_t j = 0; j < classes_; ++j) cell = std::max(cell, std::to_string(at(i, j)).size());
    }
    // Columns are numbered, for names would make the table too wide.
    std::string out = "rows: true class, columns: answer\n" + std::string(widest + 5, ' ');
    for (std::int64_t said = 0; said < classes_; ++said) out += padded(std::to_string(said), cell + 1, true);
    out += "  right\n";
    for (std::int64_t label = 0; label < classes_; ++label) {
      out += padded(std::to_string(label), 3, true) + "  " + padded(name(label), widest, false);
      for (std::int64_t said = 0; said < classes_; ++said) out += padded(at(label, said) == 0 && said != label ? "." : std::to_string(at(label, said)), cell + 1, true);
      out += "  " + percent(at(label, label), row(label)) + "\n";
    }
    return out;
  }
  [[nodiscard]] std::string mistakes() const {
    struct Mistake {
      std::int64_t count, label, said;
    };
    std::vector<Mistake> all;
    for (std::int64_t label = 0; label < classes_; ++label)
      for (std::int64_t said = 0; said < classes_; ++said)
        if (said != label && at(label, said) > 0) all.push_back({at(label, said), label, said});
    std::stable_sort(all.begin(), all.end(), [](const Mistake& a, const Mistake& b) { return a.count > b.count; });
    std::string out = all.empty() ? "no mistakes\n" : "most frequent mistakes (true class, answer)\n";
    for (std::size_t i = 0; i < std::min<std::size_t>(all.size(), 20); ++i)
      out += padded(std::to_string(all[i].count), 6, true) + "  " + name(all[i].label) + " -> " + name(all[i].said) + "\n";
    return out;
  }
  static std::string percent(std::int64_t part, std::int64_t whole) {
    if (whole == 0) return "    -";
    const auto tenths = (part * 1000 + whole / 2) / whole;
    return padded(std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + "%", 6, true);
  }

  Recipe recipe_;
  std::vector<std::string> names_;
  std::int64_t classes_ = 0;
  std::vector<std::int64_t> counts_;
};

std::unique_ptr<sluice::Metric> Recipe::build(const sluice::MetricContext& context) const { return std::make_unique<Confusion>(*this, context.classes); }

}  // namespace

SLUICE_METRIC(Recipe, "metric.confusion");
