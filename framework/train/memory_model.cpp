// In a pass with every segment checkpointed each one shows alone what it keeps and what it needs at its worst. A segment that is not
// checkpointed adds what it keeps to everything that comes after it in the forward pass and before it in the backward pass.
#include "framework/train/memory_model.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <limits>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>

#include <sluice/error.hpp>

namespace sluice {
namespace {

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
  out.forward_end = at(fewer.forward_end, more.forward_end);
  out.again_start = at(fewer.again_start, more.again_start);
  out.again_peak = at(fewer.again_peak, more.again_peak);
  out.again_end = at(fewer.again_end, more.again_end);
  out.backward_peak = at(fewer.backward_peak, more.backward_peak);
  out.output = at(fewer.output, more.output);
  out.saves_output = fewer.saves_output;
  out.moved = at(fewer.moved, more.moved);
  return out;
}

bool same_segments(const PassTrace& a, const PassTrace& b) {
  return std::equal(a.segments.begin(), a.segments.end(), b.segments.begin(), b.segments.end(), [](const SegmentTrace& x, const SegmentTrace& y) { return x.name == y.name; });
}

// A rounded count of bytes as costs add up in; finer than any difference that matters.
std::uint64_t cost_of(std::uint64_t bytes, double each) { return static_cast<std::uint64_t>(static_cast<double>(bytes) * each * 64); }

}  // namespace

MemoryModel::Traces MemoryModel::checked(Traces traces, const PassTrace& like) {
  if (traces.fewer.clips >= traces.more.clips || !same_segments(traces.fewer, like) || !same_segments(traces.more, like) || (traces.single && !same_segments(*traces.single, like)))
    throw Error(Code::plugin, "the model runs other segments with " + std::to_string(traces.fewer.clips) + " clips than with " + std::to_string(traces.more.clips),
                "the segments of a forward pass must not depend on how many clips there are");
  return traces;
}

MemoryModel::MemoryModel(PassTrace fewer, PassTrace more, std::optional<PassTrace> single) {
  const PassTrace like = fewer;
  again_ = checked({std::move(fewer), std::move(more), std::move(single)}, like);
}

void MemoryModel::learn_offload(PassTrace fewer, PassTrace more, std::optional<PassTrace> single) {
  offload_ = checked({std::move(fewer), std::move(more), std::move(single)}, again_.fewer);
}

MemoryModel::Part MemoryModel::part_of(const SegmentTrace& s, const SegmentTrace* offloaded) {
  const std::uint64_t own = s.saves_output ? 0 : s.output;  // a second run may stop before it makes its output
  const std::uint64_t plain_forward = std::max(s.forward_peak, s.forward_start + above(s.again_peak, s.again_start) + own);
  Part part;
  part.plain_peak = std::max(plain_forward, s.backward_peak);
  part.checkpointed_peak = std::max({s.forward_peak, s.again_peak, s.backward_peak});
  // What it returns lives on as the input of what comes next either way.
  part.kept = above(above(s.again_end, s.again_start), s.saves_output ? s.output : 0);
  if (offloaded == nullptr) return part;
  // Without what the offloaded segments before it left behind: that counts with them.
  part.offloaded_peak = above(std::max(offloaded->forward_peak, offloaded->backward_peak), above(offloaded->forward_start, s.forward_start));
  part.stays = above(above(offloaded->forward_end, offloaded->forward_start), above(s.forward_end, s.forward_start));
  part.moved = offloaded->moved;
  return part;
}

MemoryModel::Parts MemoryModel::parts(std::int64_t clips) const {
  Parts out;
  const bool alone = clips == 1 && again_.single;
  const auto part_at = [&](std::size_t i) {
    const SegmentTrace again = on_line(again_.fewer.segments[i], again_.more.segments[i], again_.fewer.clips, again_.more.clips, clips);
    if (!offload_) return part_of(again, nullptr);
    const SegmentTrace offloaded = on_line(offload_->fewer.segments[i], offload_->more.segments[i], offload_->fewer.clips, offload_->more.clips, clips);
    return part_of(again, &offloaded);
  };
  const auto part_alone = [&](std::size_t i) { return part_of(again_.single->segments[i], offload_ && offload_->single ? &offload_->single->segments[i] : nullptr); };
  for (std::size_t i = 0; i < again_.fewer.segments.size(); ++i) {
    if (alone) {
      out.segments.push_back(part_alone(i));
      continue;
    }
    Part part = part_at(i);
    if (again_.single) {
      const Part rest = part_alone(i);
      part.plain_peak = std::max(part.plain_peak, rest.plain_peak);
      part.checkpointed_peak = std::max(part.checkpointed_peak, rest.checkpointed_peak);
      part.offloaded_peak = std::max(part.offloaded_peak, rest.offloaded_peak);
    }
    out.segments.push_back(part);
  }
  const auto rest_of = [&](const Traces& traces) {
    if (alone && traces.single) return traces.single->rest_peak;
    SegmentTrace fewer, more;
    fewer.again_peak = traces.fewer.rest_peak;
    more.again_peak = traces.more.rest_peak;
    return std::max(on_line(fewer, more, traces.fewer.clips, traces.more.clips, clips).again_peak, traces.single ? traces.single->rest_peak : 0);
  };
  out.rest_peak = rest_of(again_);
  if (offload_ && !out.segments.empty()) {
    // The last one may keep its output where nothing after it does.
    std::uint64_t before = 0;
    for (std::size_t i = 0; i + 1 < out.segments.size(); ++i) before += out.segments[i].stays;
    auto& last = out.segments.back().offloaded_peak;
    last = std::max(last, above(rest_of(*offload_), before));
  }
  return out;
}

std::vector<std::string> MemoryModel::segments() const {
  std::vector<std::string> names;
  for (const auto& segment : again_.fewer.segments) names.push_back(segment.name);
  return names;
}

std::uint64_t MemoryModel::kept_by(const std::string& segment, std::int64_t clips) const {
  const Parts all = parts(clips);
  for (std::size_t i = 0; i < all.segments.size(); ++i)
    if (again_.fewer.segments[i].name == segment) return all.segments[i].kept;
  return 0;
}

std::uint64_t MemoryModel::moved_by(const Names& offloaded, std::int64_t clips) const {
  const Parts all = parts(clips);
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < all.segments.size(); ++i)
    if (offloaded.contains(again_.fewer.segments[i].name)) bytes += all.segments[i].moved;
  return bytes;
}

std::uint64_t MemoryModel::peak(std::int64_t clips, const Names& checkpointed, const Names& offloaded) const {
  const Parts all = parts(clips);
  std::uint64_t kept = 0, peak = 0;
  for (std::size_t i = 0; i < all.segments.size(); ++i) {
    const Part& part = all.segments[i];
    const std::string& name = again_.fewer.segments[i].name;
    const bool away = offload_ && offloaded.contains(name), again = !away && checkpointed.contains(name);
    peak = std::max(peak, kept + (away ? part.offloaded_peak : again ? part.checkpointed_peak : part.plain_peak));
    kept += away ? part.stays : again ? 0 : part.kept;
  }
  return std::max(peak, kept + all.rest_peak);
}

// By segment, in the unit of kept bytes: all together they are as many as all segments keep.
std::vector<std::uint64_t> MemoryModel::twice_costs(const Parts& all, std::uint64_t total, const Ways& ways) const {
  std::vector<std::uint64_t> out;
  std::vector<double> costs;
  for (std::size_t i = 0; i < all.segments.size(); ++i) {
    out.push_back(all.segments[i].kept);
    if (!ways.twice_costs) continue;
    if (const auto known = ways.twice_costs->find(again_.fewer.segments[i].name); known != ways.twice_costs->end()) costs.push_back(known->second);
  }
  const double sum = std::accumulate(costs.begin(), costs.end(), 0.0);
  if (costs.size() == out.size() && sum > 0)
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::uint64_t>(costs[i] / sum * static_cast<double>(total));
  return out;
}

std::optional<MemoryModel::Choice> MemoryModel::cheapest(std::int64_t clips, std::uint64_t cap, const Ways& ways) const {
  // A state is what the segments so far keep, what they cost, and what they have in host memory. One that keeps, costs and stores no
  // less than another is never better.
  struct State {
    std::uint64_t kept = 0, cost = 0, store = 0;
    std::vector<Way> way{};
    [[nodiscard]] auto order() const { return std::tuple(kept, cost, store, std::count_if(way.begin(), way.end(), [](Way one) { return one != Way::plain; })); }
  };
  const Parts all = parts(clips);
  const auto has = [](const Names* names, const std::string& name) { return names != nullptr && names->contains(name); };
  std::uint64_t total = 0, could_move = 0;
  for (const auto& part : all.segments) {
    total += part.kept;
    could_move += part.moved;
  }
  const std::vector<std::uint64_t> twice = twice_costs(all, total, ways);
  const bool store_binds = ways.store > 0 && could_move > ways.store;
  std::vector<State> states(1);
  for (std::size_t i = 0; i < all.segments.size(); ++i) {
    const Part& part = all.segments[i];
    const std::string& name = again_.fewer.segments[i].name;
    const bool must_offload = offload_ && has(ways.must_offload, name), must_twice = !must_offload && has(ways.must_twice, name);
    const bool may_twice = !must_offload && (ways.may_twice == nullptr || ways.may_twice->contains(name));
    const bool may_offload = must_offload || (offload_ && !must_twice && ways.store > 0);
    std::vector<State> next;
    for (const auto& state : states) {
      const auto add = [&](Way way, std::uint64_t kept, std::uint64_t cost, std::uint64_t store) {
        State grown = state;
        grown.kept += kept;
        grown.cost += cost;
        grown.store += store;
        grown.way.push_back(way);
        next.push_back(std::move(grown));
      };
      if (!must_offload && !must_twice && state.kept + part.plain_peak <= cap) add(Way::plain, part.kept, 0, 0);
      if ((may_twice || must_twice) && state.kept + part.checkpointed_peak <= cap) add(Way::twice, 0, cost_of(twice[i], 1), 0);
      if (may_offload && state.kept + part.offloaded_peak <= cap && (must_offload || state.store + part.moved <= ways.store))
        add(Way::offload, part.stays, cost_of(part.kept, ways.move_cost), part.moved);
    }
    std::stable_sort(next.begin(), next.end(), [](const State& a, const State& b) { return a.order() < b.order(); });
    states.clear();
    // Of those that keep no more, by cost: the least that is stored at that cost or below it.
    std::map<std::uint64_t, std::uint64_t> least_stored;
    for (auto& state : next) {
      const std::uint64_t store = store_binds ? state.store : 0;
      const auto after = least_stored.upper_bound(state.cost);
      if (after != least_stored.begin() && std::prev(after)->second <= store) continue;
      auto from = least_stored.lower_bound(state.cost);
      while (from != least_stored.end() && from->second >= store) from = least_stored.erase(from);
      least_stored[state.cost] = store;
      states.push_back(std::move(state));
    }
  }
  const State* best = nullptr;
  for (const auto& state : states)
    if (state.kept + all.rest_peak <= cap && (best == nullptr || state.cost < best->cost)) best = &state;
  if (best == nullptr) return std::nullopt;
  Choice choice;
  std::uint64_t again = 0, moved = 0;
  for (std::size_t i = 0; i < best->way.size(); ++i) {
    if (best->way[i] == Way::plain) continue;
    const bool computed = best->way[i] == Way::twice;
    (computed ? choice.checkpointed : choice.offloaded).insert(again_.fewer.segments[i].name);
    (computed ? again : moved) += computed ? twice[i] : all.segments[i].kept;
  }
  choice.peak = peak(clips, choice.checkpointed, choice.offloaded);
  choice.store = best->store;
  if (total > 0) {
    choice.again = static_cast<double>(again) / static_cast<double>(total);
    choice.moved = static_cast<double>(moved) / static_cast<double>(total);
  }
  return choice;
}

MemoryModel::Choice MemoryModel::smallest(std::int64_t clips, const Ways& ways) const {
  // What fits without any cap is enough; the lowest one lies below.
  std::uint64_t enough = cheapest(clips, std::numeric_limits<std::uint64_t>::max() / 2, ways)->peak, too_low = 0;
  while (enough - too_low > 1) {
    const auto middle = too_low + (enough - too_low) / 2;
    (cheapest(clips, middle, ways) ? enough : too_low) = middle;
  }
  return *cheapest(clips, enough, ways);
}

}  // namespace sluice
