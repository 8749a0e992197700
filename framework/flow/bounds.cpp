// What the samples of a split weigh together: for the budget, for the check at the start, for `inspect`.
#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include <fmt/format.h>

#include "framework/flow/dataset_impl.hpp"
#include "framework/flow/feed.hpp"
#include "framework/flow/plan.hpp"

namespace sluice {
namespace {

struct Survey {
  std::map<std::shared_ptr<const SamplePlan>, std::int64_t> plans;  // usable ones, and how many samples follow each
  std::set<std::shared_ptr<const SamplePlan>> others;  // of the smaller chunks of the same samples
  std::int64_t unusable = 0;
  std::string why_unusable;
};

// Why a video of the row gives no frames, or nothing; fills in the counts.
std::string count_row(const Dataset::Impl& dataset, const Stages& stages, Split split, std::size_t row, std::int64_t view, SampleShape& shape) {
  const auto& columns = dataset.of(split).videos;
  std::vector<double> unused;
  for (std::size_t c = 0; c < columns.size(); ++c) {
    const auto& column = columns[c];
    if (!column.chosen.empty() && column.chosen[row] > 0) {
      shape.videos[c].count = column.chosen[row];
      continue;
    }
    const auto& sampler = stages.items[static_cast<std::size_t>(column.sampler)].recipe;
    const auto count = count_frames(sampler, dataset.video(column, row, split, view, nullptr, unused));
    if (const auto* why = std::get_if<std::string>(&count)) return *why;
    shape.videos[c].count = std::get<std::int64_t>(count);
  }
  return {};
}

// The frames of a clip, which all of its streams have to agree on where they are cut alike.
std::string clip_frames(const SampleShape& shape, std::int64_t& frames) {
  frames = shape.videos.empty() ? 0 : shape.videos.front().count;
  for (const auto& video : shape.videos)
    if (video.count != frames) return fmt::format("its streams have {} and {} frames: chunks need as many of each", frames, video.count);
  return {};
}

// A frame must come out of the stages as it would in the whole clip.
void check_whole_clip(const Dataset::Impl& dataset, Split split) {
  for (const auto& stage : dataset.wiring.stages) {
    if (!stage.runs_in(split == Split::train) || stage.at_admission()) continue;
    if (stage.ordered() || stage.whole_clip())
      throw Error(Code::configuration, fmt::format("stage {} {}, and these clips go through in chunks", stage.name, stage.ordered() ? "goes from sample to sample" : "needs the whole clip"),
                  "leave it out, or pin plan.chunk to the frames of a clip: then clips stay whole", stage.place);
  }
}
void check_frames(const Dataset::Impl& dataset, const SamplePlan& plan, std::int64_t frames) {
  for (std::size_t i = 0; i < plan.stages.size(); ++i)
    for (const auto& [stream, info] : plan.stages[i].outputs)
      if (info.axes == "THWC" && (info.varies(0) || info.shape[0] != frames)) {
        const auto& stage = dataset.wiring.stages[i];
        throw Error(Code::configuration, fmt::format("stage {} makes {} frames of {}, and these clips go through in chunks", stage.name, info.varies(0) ? "a varying number of" : std::to_string(info.shape[0]), frames),
                    "choose frames in the frames.* stage, or pin plan.chunk to the frames of a clip: then clips stay whole", stage.place);
      }
}

// The plan of the largest chunk of a sample; those of its others are noted.
std::shared_ptr<const SamplePlan> plan_of_chunks(const Dataset::Impl& dataset, Planner& planner, SampleShape shape, const Chunking& chunking, std::string& why, Survey& found) {
  std::int64_t frames = 0;
  why = clip_frames(shape, frames);
  if (!why.empty()) return nullptr;
  std::set<std::int64_t> lengths;
  const auto count = chunks_of(frames, chunking);
  for (std::int64_t i = 0; i < count; ++i) {
    const auto place = chunk_at(frames, chunking, i);
    lengths.insert(place.last - place.first);
  }
  std::shared_ptr<const SamplePlan> largest;
  for (const auto length : lengths) {
    for (auto& video : shape.videos) video.count = length;
    auto plan = planner.plan(shape);
    why = plan->unusable;
    if (!why.empty()) return nullptr;
    check_frames(dataset, *plan, length);
    found.others.insert(plan);
    if (!largest || plan->bound > largest->bound) largest = std::move(plan);
  }
  return largest;
}

Survey survey(const Dataset::Impl& dataset, const Stages& stages, Split split, Planner& planner, const Chunking& chunking = {}) {
  Survey found;
  for (std::size_t row = 0; row < dataset.of(split).size(); ++row) {
    auto shape = planner.shape_of_row(split, row);
    for (std::int64_t view = 0; view < dataset.views_of(split); ++view) {
      auto why = count_row(dataset, stages, split, row, view, shape);
      std::shared_ptr<const SamplePlan> plan;
      if (why.empty() && chunking.on()) {
        plan = plan_of_chunks(dataset, planner, shape, chunking, why, found);
      } else if (why.empty()) {
        plan = planner.plan(shape);
        why = plan->unusable;
      }
      if (why.empty()) {
        ++found.plans[plan];
      } else if (found.unusable++ == 0) {
        found.why_unusable = dataset.where(dataset.of(split), row) + ": " + why;
      }
    }
  }
  return found;
}

// What its decoders work in; those of different streams may be at work at once.
std::uint64_t decoders_of(const Dataset::Impl& dataset, const SamplePlan& plan) {
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < plan.stages.size(); ++i)
    if (dataset.wiring.stages[i].kind == abi::Kind::decoder) bytes += plan.stages[i].scratch;
  return bytes;
}

void merge(Info& all, const Info& one) {
  if (all.shape.rank() != one.shape.rank()) return;  // a stage that changes rank from sample to sample; the trainer refuses it
  for (int axis = 0; axis < all.shape.rank(); ++axis) {
    if (all.shape[axis] != one.shape[axis]) all.varying = static_cast<std::uint8_t>(all.varying | 1u << axis);
    all.shape[axis] = std::max(all.shape[axis], one.shape[axis]);
  }
  all.varying = static_cast<std::uint8_t>(all.varying | one.varying);
  if (all.rate != one.rate) all.rate = 0;
}

}  // namespace

std::int64_t longest_clip(const Dataset& dataset, const Stages& stages, Split split) {
  Planner planner(dataset.impl(), stages);
  std::int64_t longest = 0;
  for (std::size_t row = 0; row < dataset.impl().of(split).size(); ++row) {
    auto shape = planner.shape_of_row(split, row);
    for (std::int64_t view = 0; view < dataset.impl().views_of(split); ++view) {
      if (!count_row(dataset.impl(), stages, split, row, view, shape).empty()) continue;
      for (const auto& video : shape.videos) longest = std::max(longest, video.count);
    }
  }
  return longest;
}

SampleBounds sample_bounds(const Dataset& dataset, const Stages& stages, Split split, std::uint64_t cap, std::int64_t batch_size, const Chunking& chunking) {
  Planner planner(dataset.impl(), stages);
  if (chunking.on()) check_whole_clip(dataset.impl(), split);
  const auto found = survey(dataset.impl(), stages, split, planner, chunking);

  struct Weight {
    std::uint64_t place = 0, decoders = 0;
    std::int64_t samples = 0;
  };
  std::map<std::uint64_t, Weight> by_bound;
  std::int64_t usable = 0;
  for (const auto& [plan, samples] : found.plans) {
    auto& weight = by_bound[plan->bound];
    weight.place = std::max(weight.place, plan->place);
    weight.decoders = std::max(weight.decoders, decoders_of(dataset.impl(), *plan));
    weight.samples += samples;
    usable += samples;
  }

  SampleBounds bounds;
  bounds.unusable = found.unusable;
  bounds.why_unusable = found.why_unusable;
  std::uint64_t place = 0;
  std::int64_t seen = 0, admitted = 0;
  for (const auto& [bound, weight] : by_bound) {
    place = std::max(place, weight.place);
    bounds.smallest_all = smallest_cap(batch_size, place, bound);
    if (bounds.smallest_all <= cap) {
      bounds.largest = bound;
      bounds.decoders = std::max(bounds.decoders, weight.decoders);
      bounds.place = place;
      admitted += weight.samples;
    }
    if (seen * 2 < usable && (seen + weight.samples) * 2 >= usable) {
      bounds.typical = bound;
      bounds.smallest = bounds.smallest_all;
    }
    seen += weight.samples;
    bounds.steps.push_back({bounds.smallest_all, bound, usable - seen});
  }
  bounds.too_large = usable - admitted;

  std::map<int, Info> streams;
  std::set<std::shared_ptr<const SamplePlan>> plans = found.others;
  for (const auto& [plan, samples] : found.plans) plans.insert(plan);
  for (const auto& plan : plans) {
    if (admitted > 0 && plan->bound > bounds.largest) continue;
    for (const auto& [stream, info] : plan->final) {
      const auto [at, fresh] = streams.emplace(stream, info);
      if (!fresh) merge(at->second, info);
    }
  }
  for (auto& [stream, info] : streams) bounds.streams.emplace_back(planner.streams().name(stream), std::move(info));
  return bounds;
}

std::vector<GraphNode> describe_graph(const Dataset& dataset, const Stages& stages, Split split) {
  Planner planner(dataset.impl(), stages);
  const auto found = survey(dataset.impl(), stages, split, planner);
  std::shared_ptr<const SamplePlan> largest;
  for (const auto& [plan, samples] : found.plans)
    if (!largest || plan->bound > largest->bound) largest = plan;

  const auto& wiring = dataset.impl().wiring;
  std::vector<GraphNode> nodes;
  for (std::size_t i = 0; i < wiring.stages.size(); ++i) {
    const auto& shape = wiring.stages[i];
    if (!shape.runs_in(split == Split::train)) continue;
    GraphNode node;
    node.name = shape.name;
    node.reads = shape.reads;
    node.writes = shape.writes;
    for (const int before : wiring.before[i]) node.after.push_back(wiring.stages[static_cast<std::size_t>(before)].name);
    node.bytes = largest ? largest->stages[i].transient : 0;
    node.parallel = !shape.ordered();
    nodes.push_back(std::move(node));
  }
  return nodes;
}

}  // namespace sluice
