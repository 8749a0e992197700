// Units in an order drawn from their names; the first ones, up to the share that is wanted, are for evaluation.
#include "split_list.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include <sluice/rng.hpp>

namespace sluice {
namespace {

struct SplitUnit {
  std::uint64_t rank = 0;
  std::uint64_t unit = 0;
  std::int32_t label = -1;  // of its samples; mixed: they differ
  std::size_t samples = 0;
  bool evaluation = false;
};
constexpr std::int32_t mixed = -2;

// Marks units for evaluation so that their samples come as near to `wanted` as whole units can, in the order of their ranks.
template <class Units> std::size_t mark(Units& units, double wanted) {
  std::size_t marked = 0;
  for (auto* unit : units) {
    unit->evaluation = static_cast<double>(marked) + static_cast<double>(unit->samples) / 2 <= wanted && unit->samples > 0;
    if (unit->evaluation) marked += unit->samples;
  }
  return marked;
}

}  // namespace

std::vector<bool> split_by_unit(const std::vector<SplitItem>& items, double share, std::uint64_t seed) {
  std::vector<SplitUnit> units;
  std::vector<std::uint32_t> order(items.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return items[a].unit < items[b].unit; });
  for (const auto i : order) {
    const auto& item = items[i];
    if (units.empty() || units.back().unit != item.unit) units.push_back({mix_bits(item.unit ^ mix_bits(seed)), item.unit, item.label, 0, false});
    if (units.back().label != item.label) units.back().label = mixed;
    ++units.back().samples;
  }

  std::map<std::int32_t, std::vector<SplitUnit*>> classes;
  std::vector<SplitUnit*> all;
  for (auto& unit : units) all.push_back(&unit);
  std::sort(all.begin(), all.end(), [](const auto* a, const auto* b) { return a->rank < b->rank; });
  for (auto* unit : all) classes[unit->label].push_back(unit);

  const auto samples_of = [](const auto& some) { return std::accumulate(some.begin(), some.end(), 0.0, [](double sum, const auto* unit) { return sum + static_cast<double>(unit->samples); }); };
  std::size_t marked = 0;
  if (!classes.contains(mixed))
    for (auto& [label, some] : classes) marked += mark(some, samples_of(some) * (1 - share));
  if (marked == 0 && share < 1) marked = mark(all, samples_of(all) * (1 - share));
  if (marked == 0 && share < 1 && all.size() > 1) all.front()->evaluation = true;

  std::vector<bool> evaluation(items.size());
  std::size_t at = 0;
  for (const auto i : order) {
    while (units[at].unit != items[i].unit) ++at;
    evaluation[i] = units[at].evaluation;
  }
  return evaluation;
}

std::vector<double> cuts_in_time(const std::vector<SplitItem>& items, double share, bool whole_numbers) {
  std::vector<double> cuts(items.size(), share);
  std::vector<std::uint32_t> order(items.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](auto a, auto b) {
    const auto &left = items[a], &right = items[b];
    if (left.file != right.file) return left.file < right.file;
    if (left.piece != right.piece) return right.piece;  // whole files first
    return left.start < right.start;
  });
  for (std::size_t first = 0; first < order.size();) {
    const auto& begin = items[order[first]];
    bool whole_too = !begin.piece;
    std::size_t last = first;
    while (last < order.size() && items[order[last]].file == begin.file && !items[order[last]].piece) ++last;  // whole: cut at the share
    while (last < order.size() && items[order[last]].file == begin.file) {
      if (whole_too) {
        cuts[order[last++]] = std::numeric_limits<double>::quiet_NaN();
        continue;
      }
      const auto from = last;  // a chain of pieces that overlap
      double end = items[order[last]].end;
      for (++last; last < order.size() && items[order[last]].file == begin.file && items[order[last]].start < end; ++last) end = std::max(end, items[order[last]].end);
      const double start = items[order[from]].start;
      double cut = start + share * (end - start);
      if (whole_numbers) cut = std::floor(cut);
      for (auto i = from; i < last; ++i) cuts[order[i]] = cut;
    }
    first = last;
  }
  return cuts;
}

}  // namespace sluice
