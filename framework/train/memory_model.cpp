// In a pass with every segment checkpointed each one shows alone what it keeps and what it needs at its worst. A segment that is not
// checkpointed adds what it keeps to everything that comes after it in the forward pass and before it in the backward pass.
#include "framework/train/memory_model.hpp"

#include <algorithm>
#include <tuple>
#include <utility>

#include <sluice/error.hpp>

namespace sluice {
namespace {

using Names = std::set<std::string, std::less<>>;

std::uint64_t above(std::uint64_t a, std::uint64_t b) { return a > b ? a - b : 0; }

SegmentTrace on_line(const SegmentTrace& fewer, const SegmentTrace& more, std::int64_t from, std::int64_t to, std::int64_t clips) {
  const auto at = [&](std::uint64_t a, std::uint64_t b) {
    const auto slope = (static_cast<double>(b) - static_cast<double>(a)) / static_cast<double>(to - from);
    return static_cast<std::uint64_t>(std::max(0.0, static_cast<double>(b) + slope * static_cast<double>(clips - to)));
  };
  SegmentTrace out;
  out.name = fewer.name;
  out.forward_start = at(fewer.forward_start, more.forward_start);
  out.forward_peak = at(fewer.forward_peak, more.forward_peak);
  out.again_start = at(fewer.again_start, more.again_start);
  out.again_peak = at(fewer.again_peak, more.again_peak);
  out.again_end = at(fewer.again_end, more.again_end);
  out.backward_peak = at(fewer.backward_peak, more.backward_peak);
  out.output = at(fewer.output, more.output);
  out.saves_output = fewer.saves_output;
  return out;
}

}  // namespace

MemoryModel::MemoryModel(PassTrace fewer, PassTrace more, std::optional<PassTrace> single) : fewer_(std::move(fewer)), more_(std::move(more)), single_(std::move(single)) {
  const auto same = [&](const PassTrace& other) {
    return std::equal(fewer_.segments.begin(), fewer_.segments.end(), other.segments.begin(), other.segments.end(), [](const SegmentTrace& a, const SegmentTrace& b) { return a.name == b.name; });
  };
  if (fewer_.clips >= more_.clips || !same(more_) || (single_ && !same(*single_)))
    throw Error(Code::plugin, "the model runs other segments with " + std::to_string(fewer_.clips) + " clips than with " + std::to_string(more_.clips),
                "the segments of a forward pass must not depend on how many clips there are");
}

MemoryModel::Part MemoryModel::part_of(const SegmentTrace& s) {
  const std::uint64_t own = s.saves_output ? 0 : s.output;  // a second run may stop before it makes its output
  const std::uint64_t plain_forward = std::max(s.forward_peak, s.forward_start + above(s.again_peak, s.again_start) + own);
  Part part;
  part.plain_peak = std::max(plain_forward, s.backward_peak);
  part.checkpointed_peak = std::max({s.forward_peak, s.again_peak, s.backward_peak});
  // What it returns lives on as the input of what comes next either way.
  part.kept = above(above(s.again_end, s.again_start), s.saves_output ? s.output : 0);
  return part;
}

MemoryModel::Parts MemoryModel::parts(std::int64_t clips) const {
  Parts out;
  const bool alone = clips == 1 && single_;
  for (std::size_t i = 0; i < fewer_.segments.size(); ++i) {
    if (alone) {
      out.segments.push_back(part_of(single_->segments[i]));
      continue;
    }
    Part part = part_of(on_line(fewer_.segments[i], more_.segments[i], fewer_.clips, more_.clips, clips));
    if (single_) {
      const Part rest = part_of(single_->segments[i]);
      part.plain_peak = std::max(part.plain_peak, rest.plain_peak);
      part.checkpointed_peak = std::max(part.checkpointed_peak, rest.checkpointed_peak);
    }
    out.segments.push_back(part);
  }
  SegmentTrace fewer, more;
  fewer.again_peak = fewer_.rest_peak;
  more.again_peak = more_.rest_peak;
  out.rest_peak = alone ? single_->rest_peak : std::max(on_line(fewer, more, fewer_.clips, more_.clips, clips).again_peak, single_ ? single_->rest_peak : 0);
  return out;
}

std::vector<std::string> MemoryModel::segments() const {
  std::vector<std::string> names;
  for (const auto& segment : fewer_.segments) names.push_back(segment.name);
  return names;
}

std::uint64_t MemoryModel::kept_by(const std::string& segment, std::int64_t clips) const {
  const Parts all = parts(clips);
  for (std::size_t i = 0; i < fewer_.segments.size(); ++i)
    if (fewer_.segments[i].name == segment) return all.segments[i].kept;
  return 0;
}

std::uint64_t MemoryModel::peak(std::int64_t clips, const Names& checkpointed) const {
  const Parts all = parts(clips);
  std::uint64_t kept = 0, peak = 0;
  for (std::size_t i = 0; i < all.segments.size(); ++i) {
    const bool again = checkpointed.contains(fewer_.segments[i].name);
    peak = std::max(peak, kept + (again ? all.segments[i].checkpointed_peak : all.segments[i].plain_peak));
    if (!again) kept += all.segments[i].kept;
  }
  return std::max(peak, kept + all.rest_peak);
}

std::optional<MemoryModel::Choice> MemoryModel::cheapest(std::int64_t clips, std::uint64_t cap, const Names* allowed) const {
  // A state is what the segments so far keep and what they make twice. One that keeps and costs no less than another is never better.
  struct State {
    std::uint64_t kept = 0, cost = 0;
    std::vector<bool> again{};
    [[nodiscard]] auto order() const { return std::tuple(kept, cost, std::count(again.begin(), again.end(), true)); }
  };
  const Parts all = parts(clips);
  std::vector<State> states(1);
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < all.segments.size(); ++i) {
    const Part& part = all.segments[i];
    total += part.kept;
    const bool may = allowed == nullptr || allowed->contains(fewer_.segments[i].name);
    std::vector<State> next;
    for (const auto& state : states) {
      const auto add = [&](bool again) {
        State grown = state;
        (again ? grown.cost : grown.kept) += part.kept;
        grown.again.push_back(again);
        next.push_back(std::move(grown));
      };
      if (state.kept + part.plain_peak <= cap) add(false);
      if (may && state.kept + part.checkpointed_peak <= cap) add(true);
    }
    std::stable_sort(next.begin(), next.end(), [](const State& a, const State& b) { return a.order() < b.order(); });
    states.clear();
    for (auto& state : next)
      if (states.empty() || state.cost < states.back().cost) states.push_back(std::move(state));
  }
  const State* best = nullptr;
  for (const auto& state : states)
    if (state.kept + all.rest_peak <= cap && (best == nullptr || state.cost < best->cost)) best = &state;
  if (best == nullptr) return std::nullopt;
  Choice choice;
  for (std::size_t i = 0; i < best->again.size(); ++i)
    if (best->again[i]) choice.checkpointed.insert(fewer_.segments[i].name);
  choice.peak = peak(clips, choice.checkpointed);
  choice.cost = total == 0 ? 0 : static_cast<double>(best->cost) / static_cast<double>(total);
  return choice;
}

MemoryModel::Choice MemoryModel::smallest(std::int64_t clips, const Names* allowed) const {
  Names every;
  for (const auto& segment : fewer_.segments)
    if (allowed == nullptr || allowed->contains(segment.name)) every.insert(segment.name);
  // A cap that all of them checkpointed, or none, keep is enough; the lowest one lies below.
  std::uint64_t enough = std::min(peak(clips, every), peak(clips, {})), too_low = 0;
  while (enough - too_low > 1) {
    const auto middle = too_low + (enough - too_low) / 2;
    (cheapest(clips, middle, allowed) ? enough : too_low) = middle;
  }
  return *cheapest(clips, enough, allowed);
}

}  // namespace sluice
