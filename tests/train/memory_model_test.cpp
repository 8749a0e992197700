// The choice of segments against trying every set of them.
#include "framework/train/memory_model.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <string>

#include <sluice/error.hpp>

using namespace sluice;

namespace {

using Names = std::set<std::string, std::less<>>;

PassTrace random_trace(std::int64_t clips, std::size_t segments, std::uint32_t seed) {
  std::mt19937 random(seed);
  PassTrace trace;
  trace.clips = clips;
  const auto bytes = [&](std::uint32_t most) { return static_cast<std::uint64_t>(clips) * (1 + random() % most) + 50; };
  std::uint64_t boundary = 0;
  for (std::size_t i = 0; i < segments; ++i) {
    SegmentTrace s;
    s.name = "s" + std::to_string(i);
    s.forward_start = boundary;
    s.output = bytes(200);
    s.forward_peak = boundary + s.output + bytes(300);
    s.again_start = boundary + bytes(100);
    s.again_end = s.again_start + bytes(1000) + s.output;
    s.again_peak = s.again_end + bytes(200);
    s.backward_peak = s.again_end + bytes(400);
    s.saves_output = random() % 2 == 0;
    boundary += s.output;
    trace.segments.push_back(s);
  }
  trace.rest_peak = boundary + bytes(100);
  return trace;
}

MemoryModel random_model(std::size_t segments, std::uint32_t seed) { return {random_trace(2, segments, seed), random_trace(3, segments, seed)}; }

std::vector<Names> every_set(const MemoryModel& model) {
  const auto names = model.segments();
  std::vector<Names> all;
  for (std::uint32_t bits = 0; bits < (1U << names.size()); ++bits) {
    Names set;
    for (std::size_t i = 0; i < names.size(); ++i)
      if ((bits >> i) & 1U) set.insert(names[i]);
    all.push_back(set);
  }
  return all;
}

std::uint64_t cost_of(const MemoryModel& model, const Names& set, std::int64_t clips) {
  std::uint64_t cost = 0;
  for (const auto& name : set) cost += model.kept_by(name, clips);
  return cost;
}

}  // namespace

// Mistakes caught: times that are not looked at, or taken for those of another segment.
TEST_CASE("with measured times the cheapest set is the one that takes the least of them") {
  int other = 0;
  for (std::uint32_t seed = 0; seed < 100; ++seed) {
    const MemoryModel model = random_model(2 + seed % 6, seed);
    constexpr std::int64_t clips = 5;
    std::mt19937 random(seed);
    std::map<std::string, double, std::less<>> seconds;
    double all = 0, kept = 0;
    for (const auto& name : model.segments()) {
      all += seconds[name] = static_cast<double>(1 + random() % 100);
      kept += static_cast<double>(model.kept_by(name, clips));
    }
    const auto time_of = [&](const Names& set) {
      double time = 0;
      for (const auto& name : set) time += seconds[name];
      return time;
    };
    const std::uint64_t lowest = model.smallest(clips).peak, highest = model.peak(clips, {}), cap = lowest + (highest - lowest) / 2;
    double least = std::numeric_limits<double>::infinity();
    for (const auto& set : every_set(model))
      if (model.peak(clips, set) <= cap) least = std::min(least, time_of(set));
    MemoryModel::Ways ways;
    ways.twice_costs = &seconds;
    const auto found = model.cheapest(clips, cap, ways), by_bytes = model.cheapest(clips, cap);
    REQUIRE(found);
    const double rounding = static_cast<double>(seconds.size()) * all / kept;
    CHECK(time_of(found->checkpointed) <= least + rounding);
    CHECK(found->again == doctest::Approx(time_of(found->checkpointed) / all).epsilon(0.01));
    other += time_of(by_bytes->checkpointed) > least + rounding;
    seconds.erase(seconds.begin());  // of one nobody knows: bytes count for all
    CHECK(model.cheapest(clips, cap, ways)->checkpointed == by_bytes->checkpointed);
  }
  CHECK(other > 10);
}

// Mistakes caught: a state that is dropped too early, a cap that is checked against the wrong prefix, the rest left out.
TEST_CASE("the cheapest set that fits, and the set with the lowest peak, are those that trying all of them finds") {
  std::mt19937 random(1);
  int refused = 0, partial = 0;
  for (std::uint32_t seed = 0; seed < 200; ++seed) {
    const MemoryModel model = random_model(1 + seed % 7, seed);
    const std::int64_t clips = 1 + static_cast<std::int64_t>(random() % 20);
    const auto sets = every_set(model);
    std::uint64_t lowest = std::numeric_limits<std::uint64_t>::max(), highest = 0;
    for (const auto& set : sets) {
      lowest = std::min(lowest, model.peak(clips, set));
      highest = std::max(highest, model.peak(clips, set));
    }
    CHECK(model.smallest(clips).peak == lowest);
    CHECK(model.peak(clips, model.smallest(clips).checkpointed) == lowest);
    for (const double at : {-0.1, 0.0, 0.2, 0.5, 0.8, 1.0}) {
      const auto cap = static_cast<std::uint64_t>(static_cast<double>(lowest) + at * static_cast<double>(highest - lowest)) - (at < 0 ? 1 : 0);
      std::uint64_t least = std::numeric_limits<std::uint64_t>::max();
      for (const auto& set : sets)
        if (model.peak(clips, set) <= cap) least = std::min(least, cost_of(model, set, clips));
      const auto found = model.cheapest(clips, cap);
      REQUIRE(found.has_value() == (least != std::numeric_limits<std::uint64_t>::max()));
      if (!found) {
        ++refused;
        continue;
      }
      CHECK(found->peak <= cap);
      CHECK(found->peak == model.peak(clips, found->checkpointed));
      CHECK(cost_of(model, found->checkpointed, clips) == least);
      partial += !found->checkpointed.empty() && found->checkpointed.size() < model.segments().size();
    }
    // One byte less than the lowest peak is refused, the peak itself is not.
    CHECK(model.cheapest(clips, lowest));
    CHECK_FALSE(model.cheapest(clips, lowest - 1));
  }
  CHECK(refused > 100);
  CHECK(partial > 100);
}

namespace {

// The passes of random_model() with every segment offloaded: each leaves something behind, and needs less than when it is run again.
PassTrace random_offload(std::int64_t clips, std::size_t segments, std::uint32_t seed) {
  PassTrace trace = random_trace(clips, segments, seed);
  std::mt19937 random(seed + 1000);
  std::uint64_t left_behind = 0;
  for (auto& s : trace.segments) {
    const auto some = [&](std::uint64_t most) { return static_cast<std::uint64_t>(clips) * (random() % most); };
    s.forward_end = s.forward_start + s.output;
    const std::uint64_t stays = some(60);
    s.moved = s.again_end - s.again_start + some(20);
    s.forward_peak += left_behind + some(500);
    s.backward_peak = s.forward_start + left_behind + some(900);
    s.forward_start += left_behind;
    left_behind += stays;
    s.forward_end += left_behind;
    s.again_start = s.again_end = s.again_peak = 0;
  }
  return trace;
}

struct Way {
  Names twice, offload;
};
// Of each segment: plain, twice or offloaded.
std::vector<Way> every_way(const MemoryModel& model) {
  const auto names = model.segments();
  std::size_t count = 1;
  for (std::size_t i = 0; i < names.size(); ++i) count *= 3;
  std::vector<Way> all(count);
  for (std::size_t number = 0; number < count; ++number) {
    std::size_t digits = number;
    for (const auto& name : names) {
      if (digits % 3 == 1) all[number].twice.insert(name);
      if (digits % 3 == 2) all[number].offload.insert(name);
      digits /= 3;
    }
  }
  return all;
}

}  // namespace

// Mistakes caught: a store that is overdrawn, or forgotten when two ways cost the same; a way that is dropped although it alone leaves
// room for a later segment; what is left behind counted twice or not at all.
TEST_CASE("the cheapest way for each segment, plain, twice or offloaded, is the one that trying all of them finds") {
  std::mt19937 random(2);
  int refused = 0, mixed = 0, bound = 0;
  for (std::uint32_t seed = 0; seed < 60; ++seed) {
    const std::size_t segments = 1 + seed % 6;
    PassTrace two = random_trace(2, segments, seed), three = random_trace(3, segments, seed);
    for (auto* trace : {&two, &three})
      for (auto& s : trace->segments) s.forward_end = s.forward_start + s.output;
    MemoryModel model(two, three);
    model.learn_offload(random_offload(2, segments, seed), random_offload(3, segments, seed));
    const std::int64_t clips = 1 + static_cast<std::int64_t>(random() % 20);
    const auto ways = every_way(model);
    Names all;
    for (const auto& name : model.segments()) all.insert(name);
    const std::uint64_t most = model.moved_by(all, clips);
    for (const double share : {0.3, 0.6, 1.0}) {
      MemoryModel::Ways open;
      open.store = 1 + static_cast<std::uint64_t>(share * static_cast<double>(most));
      open.move_cost = seed % 3 == 0 ? 2 : 0.25;  // exact in binary
      const auto cost = [&](const Way& way) { return 4 * cost_of(model, way.twice, clips) + static_cast<std::uint64_t>(4 * open.move_cost) * cost_of(model, way.offload, clips); };
      std::uint64_t lowest = std::numeric_limits<std::uint64_t>::max();
      for (const auto& way : ways)
        if (model.moved_by(way.offload, clips) <= open.store) lowest = std::min(lowest, model.peak(clips, way.twice, way.offload));
      CHECK(model.smallest(clips, open).peak == lowest);
      const std::uint64_t plain = model.peak(clips, {});
      for (const double at : {-0.01, 0.0, 0.3, 0.7, 1.0}) {
        const auto cap = static_cast<std::uint64_t>(static_cast<double>(lowest) + at * static_cast<double>(plain - lowest)) - (at < 0 ? 1 : 0);
        std::uint64_t least = std::numeric_limits<std::uint64_t>::max(), unbound = least;
        for (const auto& way : ways) {
          if (model.peak(clips, way.twice, way.offload) > cap) continue;
          unbound = std::min(unbound, cost(way));
          if (model.moved_by(way.offload, clips) <= open.store) least = std::min(least, cost(way));
        }
        const auto found = model.cheapest(clips, cap, open);
        REQUIRE(found.has_value() == (least != std::numeric_limits<std::uint64_t>::max()));
        if (!found) {
          ++refused;
          continue;
        }
        const Way way{found->checkpointed, found->offloaded};
        CHECK(found->peak <= cap);
        CHECK(found->peak == model.peak(clips, way.twice, way.offload));
        CHECK(found->store == model.moved_by(way.offload, clips));
        CHECK(found->store <= open.store);
        CHECK(cost(way) == least);
        mixed += !way.twice.empty() && !way.offload.empty();
        bound += least > unbound;
      }
    }
  }
  CHECK(refused > 50);
  CHECK(mixed > 50);
  CHECK(bound > 20);
}

// Mistake caught: a wish that the choice passes over.
TEST_CASE("what must be computed twice or offloaded is, whatever it costs") {
  PassTrace two = random_trace(2, 5, 4), three = random_trace(3, 5, 4);
  MemoryModel model(two, three);
  model.learn_offload(random_offload(2, 5, 4), random_offload(3, 5, 4));
  const Names twice{"s1"}, offload{"s3"};
  const auto plenty = std::numeric_limits<std::uint64_t>::max() / 4;
  const auto both = model.cheapest(8, plenty, {.may_twice = &twice, .must_twice = &twice, .must_offload = &offload});
  REQUIRE(both);
  CHECK(both->checkpointed == twice);
  CHECK(both->offloaded == offload);
  CHECK(model.cheapest(8, plenty, {.store = plenty})->offloaded.empty());
  CHECK(model.smallest(8, {.must_offload = &offload}).offloaded == offload);
}

// Mistake caught: a segment that was pinned is chosen all the same.
TEST_CASE("only what is allowed is checkpointed") {
  const MemoryModel model = random_model(6, 3);
  const Names allowed{"s1", "s4"};
  const auto least = model.smallest(8, {.may_twice = &allowed});
  for (const auto& name : least.checkpointed) CHECK(allowed.contains(name));
  CHECK(least.peak >= model.smallest(8).peak);
  for (std::uint64_t cap = least.peak; cap < model.peak(8, {}); cap += 500) {
    const auto found = model.cheapest(8, cap, {.may_twice = &allowed});
    REQUIRE(found);
    for (const auto& name : found->checkpointed) CHECK(allowed.contains(name));
  }
  CHECK(model.cheapest(8, model.peak(8, {}))->checkpointed.empty());
  const Names none;
  CHECK(model.smallest(8, {.may_twice = &none}).checkpointed.empty());
}

// Mistake caught: extrapolation from the wrong end, or through the origin.
TEST_CASE("bytes are on the line through the two traces") {
  SegmentTrace two, three;
  two.name = three.name = "s";
  two.again_end = two.again_peak = two.backward_peak = 1000 + 2 * 300;
  three.again_end = three.again_peak = three.backward_peak = 1000 + 3 * 300;
  const MemoryModel model({2, {two}, 50 + 2 * 10, 0}, {3, {three}, 50 + 3 * 10, 0});
  CHECK(model.kept_by("s", 30) == 1000 + 30 * 300);
  CHECK(model.peak(30, {}) == 1000 + 30 * 300 + 50 + 30 * 10);
  CHECK(model.peak(30, {"s"}) == 1000 + 30 * 300);
}

// Mistake caught: one clip on the line of two and three, where kernels go other ways.
TEST_CASE("a single clip has its own trace") {
  const MemoryModel model(random_trace(2, 4, 7), random_trace(3, 4, 7), random_trace(1, 4, 8));
  const MemoryModel alone(random_trace(1, 4, 8), random_trace(2, 4, 8));
  for (const auto& set : every_set(model)) CHECK(model.peak(1, set) == alone.peak(1, set));
  // A batch may leave a rest of one: no larger number is weighed below it.
  for (const auto& set : every_set(model)) CHECK(model.peak(2, set) >= std::max(alone.peak(1, set), random_model(4, 7).peak(2, set)));
}

TEST_CASE("other segments with more clips are an error") {
  CHECK_THROWS_AS(MemoryModel(random_trace(2, 3, 1), random_trace(3, 4, 1)), Error);
  CHECK_THROWS_AS(MemoryModel(random_trace(3, 3, 1), random_trace(2, 3, 1)), Error);
  const MemoryModel nothing({2, {}, 100, 100}, {3, {}, 150, 150});
  CHECK(nothing.smallest(4).peak == 200);
  CHECK(nothing.cheapest(4, 200)->checkpointed.empty());
}
