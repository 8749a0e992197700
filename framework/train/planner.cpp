// Predicts with the model of two small passes, then measures what it chose: a plan is one that was seen to fit.
#include "framework/train/planner.hpp"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/base/bytes.hpp"
#include "framework/base/strings.hpp"

namespace sluice {
namespace {

using Mode = SegmentChoice::Mode;

std::uint64_t above(std::uint64_t a, std::uint64_t b) { return a > b ? a - b : 0; }

// The most that is within the cap with its margin.
std::uint64_t without_margin(std::uint64_t cap) {
  std::uint64_t bytes = above(cap, MiB) / 65 * 64;
  while (with_margin(bytes + 1) <= cap) ++bytes;
  return bytes;
}

// What a plan costs in time, as a share of a step that takes the whole batch at once: a fixed order, so that one file gives one plan.
// Computing all again is a third forward pass beside the two passes' worth of the backward pass; smaller microbatches pay for the
// weights in each pass, and a single clip leaves most kernels half idle. docs/decisions/0009-order-of-the-plan.md has the measurement.
double time_cost(std::int64_t microbatch, std::int64_t batch, double again) {
  const double passes = microbatch >= batch ? 0 : microbatch == 1 ? 0.7 : 0.1 + 0.2 / static_cast<double>(microbatch);
  return passes + again / 3;
}

class Planner {
 public:
  Planner(NeedsMeter& meter, const PlanRequest& request) : meter_(meter), request_(request), limits_(request.limits) {}

  Planned plan() {
    Planned out;
    out.smallest = with_least_evaluation(smallest());
    if (keeps_whole()) out.smallest = with_least_evaluation(smallest());
    auto least = fit(out.smallest, Room::least);
    if (keeps_whole()) {
      out.smallest = with_least_evaluation(smallest());
      least = fit(out.smallest, Room::least);
    }
    if (!least) return refused(std::move(out));
    out.smallest_needs = *least;
    out.plan = out.smallest;
    out.needs = *least;
    out.why = "the only plan that is allowed";
    if (!meter_.has_training() || !several()) {
      widen_evaluation(out);
      out.smallest_needs.runtime = meter_.fixed().runtime;
      check_names();
      return out;
    }
    out.why = "the plan with the least memory: no other fits";
    const Known known = what_is_known();
    std::uint64_t not_above = no_limit;
    for (int attempt = 0; known.model && attempt < 3; ++attempt) {
      const auto found = choose(known, not_above);
      if (!found) break;
      TrainingPlan plan = found->found.plan;
      if (const auto needs = fit(plan, Room::least)) {
        out.plan = plan;
        out.needs = *needs;
        by_measured_times_ = found->measured;
        break;
      }
      not_above = found->found.peak - 1;  // the prediction was too low
    }
    out.smallest_needs.runtime = meter_.fixed().runtime;  // the passes after it may have shown more
    out.why = reason(out.plan);
    check_names();
    if (!few_) describe(out, known.model);
    return out;
  }

  [[nodiscard]] const PlanLimits& limits() const { return limits_; }

  // Where what a model does beside its Pass keeps the batch in one piece.
  [[nodiscard]] std::string whole_because() const {
    const auto& beside = meter_.beside_pass();
    if (!meter_.has_training() || limits_.microbatches.front() < limits_.batch || limits_.batch == 1) return {};
    if (!beside.draws.empty()) return fmt::format("the batch stays whole, for {} draws random numbers beside its Pass", named(beside.draws));
    if (!beside.statistics.empty()) return fmt::format("the batch stays whole, for {} moves in training", beside.statistics);
    return {};
  }

 private:
  enum class Room { least, useful };
  static constexpr std::uint64_t no_limit = std::uint64_t{1} << 62;

  // What a model does beside its Pass depends on how a batch is cut, so the batch stays whole. Returns whether that is news. Known
  // after the first pass.
  bool keeps_whole() {
    const auto& beside = meter_.beside_pass();
    if (meter_.has_training() && beside.any()) limits_.smaller.clear();
    if (!meter_.has_training() || !beside.any() || limits_.microbatches.back() >= limits_.batch) return false;
    if (limits_.microbatches.size() > 1) {
      limits_.microbatches = {limits_.batch};
      return true;
    }
    const auto microbatch = limits_.microbatches.back();
    const std::string hint = fmt::format("; or batch.microbatch = {}: the batch stays whole", limits_.batch);
    if (!beside.draws.empty())
      throw Error(Code::configuration, fmt::format("{} draws random numbers beside its Pass, and microbatches of {} would change what is drawn", named(beside.draws), microbatch),
                  "use pass.dropout(x, p), whose draws follow the sample, for torch::dropout" + hint);
    throw Error(Code::configuration, fmt::format("the model's {} moves in training and counts as no batch norm, and microbatches of {} would move it more often", beside.statistics, microbatch),
                "count it in batch_norms(), so that model.batch_norm decides" + hint);
  }
  static std::string named(const std::string& segment) { return segment == "the model" ? segment : fmt::format("the segment '{}'", segment); }

  // What gradients and activations cannot have, and can.
  [[nodiscard]] std::uint64_t taken(std::int64_t eval_microbatch, Room how) const {
    const auto& fixed = meter_.fixed();
    const SampleRoom samples = request_.samples(eval_microbatch);
    return fixed.base + fixed.runtime + fixed.parameters + fixed.optimizer + request_.reserve + (how == Room::least ? samples.least : samples.useful);
  }
  [[nodiscard]] std::uint64_t room(std::int64_t eval_microbatch, Room how) const {
    const std::uint64_t host = above(request_.host_ram, taken(eval_microbatch, how));
    return request_.device_memory == 0 ? host : std::min(host, above(request_.device_memory, meter_.fixed().parameters + meter_.fixed().optimizer));
  }

  [[nodiscard]] bool automatic() const { return limits_.checkpoint.mode == Mode::automatic; }
  [[nodiscard]] bool several() const { return automatic() || limits_.microbatches.size() > 1; }
  [[nodiscard]] Checkpointing pinned() const {
    if (limits_.checkpoint.mode == Mode::named) return {false, {limits_.checkpoint.names.begin(), limits_.checkpoint.names.end()}};
    return {limits_.checkpoint.mode == Mode::all, {}};
  }
  static std::set<std::string, std::less<>> names_of(const Checkpointing& checkpointing, const MemoryModel& model) {
    if (!checkpointing.all) return checkpointing.names;
    const auto all = model.segments();
    return {all.begin(), all.end()};
  }
  [[nodiscard]] TrainingPlan with(std::int64_t microbatch, Checkpointing checkpointing) const {
    return {microbatch, limits_.eval_microbatch == 0 ? microbatch : limits_.eval_microbatch, std::move(checkpointing)};
  }

  // What may be chosen from: where three clips need more than there is, one or two may fit in more ways than computing all twice.
  struct Known {
    const MemoryModel* model = nullptr;
    std::int64_t most = std::numeric_limits<std::int64_t>::max();  // clips that it knows of
  };
  Known what_is_known() {
    const auto cap = room(least_evaluation(), Room::least);
    few_.reset();
    if (const MemoryModel* model = meter_.model(cap)) return {model};
    few_ = meter_.model_of_few(cap);
    return few_ ? Known{&few_->model, few_->most} : Known{};
  }

  // Clips at a time; the bounds of all samples are walked through for each number that is asked about, so plans are compared by this one.
  [[nodiscard]] std::int64_t least_evaluation() const { return limits_.eval_microbatch == 0 ? 1 : limits_.eval_microbatch; }
  [[nodiscard]] TrainingPlan with_least_evaluation(TrainingPlan plan) const {
    plan.eval_microbatch = least_evaluation();
    return plan;
  }
  TrainingPlan smallest() {
    const auto microbatch = limits_.microbatches.back();
    if (!meter_.has_training()) return with(least_evaluation(), {});
    const Known known = several() ? what_is_known() : Known{};
    if (known.model && microbatch <= known.most) return smallest(*known.model, known.most);
    return with(microbatch, automatic() ? Checkpointing{true, {}} : pinned());
  }
  // Kernels may need more for one clip than for two.
  TrainingPlan smallest(const MemoryModel& model, std::int64_t most = std::numeric_limits<std::int64_t>::max()) const {
    const auto& all = limits_.microbatches;
    std::optional<std::pair<std::uint64_t, TrainingPlan>> best;
    for (std::size_t i = all.size() - std::min<std::size_t>(all.size(), 3); i < all.size(); ++i) {
      if (all[i] > most) continue;
      std::uint64_t peak = 0;
      Checkpointing checkpointing = pinned();
      if (automatic()) {
        const auto choice = model.smallest(all[i]);
        peak = choice.peak;
        checkpointing = {false, choice.checkpointed};
      } else {
        peak = model.peak(all[i], names_of(checkpointing, model));
      }
      if (!best || peak < best->first) best.emplace(peak, with(all[i], std::move(checkpointing)));
    }
    return best->second;
  }

  // The last pass of a batch may be a single clip, and that may need more than several do.
  std::optional<std::uint64_t> training_of(const TrainingPlan& plan, std::uint64_t cap) {
    const auto bytes = meter_.training(plan, cap);
    if (!bytes || plan.microbatch == 1) return bytes;
    TrainingPlan rest = plan;
    rest.microbatch = 1;
    const auto alone = meter_.training(rest, cap);
    return alone ? std::optional(std::max(*bytes, *alone)) : std::nullopt;
  }
  std::optional<std::uint64_t> evaluation_of(const TrainingPlan& plan, std::uint64_t cap) {
    const auto bytes = meter_.evaluation(plan.eval_microbatch, cap);
    if (!bytes || plan.eval_microbatch == 1) return bytes;
    const auto alone = meter_.evaluation(1, cap);
    return alone ? std::optional(std::max(*bytes, *alone)) : std::nullopt;
  }

  // What the plan needs, or nothing where it does not fit. An evaluation that was left open gets as many clips as fit.
  std::optional<TensorNeeds> fit(TrainingPlan& plan, Room how) {
    std::uint64_t bytes = 0;
    if (meter_.has_training()) {
      const auto training = training_of(plan, room(least_evaluation(), how));
      if (!training || *training > room(least_evaluation(), how)) return std::nullopt;  // the room shrinks with what the libraries keep
      bytes = *training;
    }
    if (meter_.has_evaluation()) {
      for (;;) {
        const auto cap = room(plan.eval_microbatch, how);
        const auto evaluation = cap < bytes ? std::nullopt : evaluation_of(plan, cap);
        if (evaluation && *evaluation <= room(plan.eval_microbatch, how)) {
          bytes = std::max(bytes, *evaluation);
          break;
        }
        if (limits_.eval_microbatch != 0 || plan.eval_microbatch == 1) return std::nullopt;
        plan.eval_microbatch = (plan.eval_microbatch + 1) / 2;
      }
    }
    return needs_with(bytes);
  }

  [[nodiscard]] TensorNeeds needs_with(std::uint64_t pass) const {
    TensorNeeds needs = meter_.fixed();
    needs.activations = above(pass, needs.gradients);
    return needs;
  }

  struct Found {
    TrainingPlan plan;
    std::uint64_t peak = 0;
    double again = 0;  // share of what is kept
  };
  struct Cheapest {
    Found found;
    bool measured = false;  // by times that were measured
  };
  // The earlier of two that cost the same. Measured times count where there is one for each; a mixture with the formula would compare what cannot be.
  [[nodiscard]] std::optional<Cheapest> cheapest(const std::vector<Found>& all) const {
    const StepTimes* times = request_.times;
    const bool measured = times && std::all_of(all.begin(), all.end(), [&](const Found& found) { return times->plain(found.plan.microbatch).has_value(); });
    const auto cost = [&](const Found& found) {
      return measured ? *times->plain(found.plan.microbatch) * (1 + times->twice() * found.again) : time_cost(found.plan.microbatch, limits_.batch, found.again);
    };
    const auto best = std::min_element(all.begin(), all.end(), [&](const Found& a, const Found& b) { return cost(a) < cost(b); });
    return best == all.end() ? std::nullopt : std::optional(Cheapest{*best, measured});
  }
  // The cheapest that leaves as many samples ahead as are useful; where that costs anything, one with fewer of them may be cheaper.
  std::optional<Cheapest> choose(const Known& known, std::uint64_t not_above) const {
    std::vector<Found> all;
    for (const Room how : {Room::useful, Room::least})
      for (const auto microbatch : limits_.microbatches) {
        if (microbatch > known.most) continue;
        const auto cap = std::min(room(least_evaluation(), how), not_above);
        if (auto found = choose(*known.model, microbatch, cap)) all.push_back(std::move(*found));
      }
    return cheapest(all);
  }
  std::optional<Found> choose(const MemoryModel& model, std::int64_t microbatch, std::uint64_t cap) const {
    if (automatic()) {
      const auto choice = model.cheapest(microbatch, without_margin(cap));
      if (!choice) return std::nullopt;
      return Found{with(microbatch, {false, choice->checkpointed}), with_margin(choice->peak), choice->cost};
    }
    const Checkpointing checkpointing = pinned();
    const auto peak = with_margin(model.peak(microbatch, names_of(checkpointing, model)));
    if (peak > cap) return std::nullopt;
    std::uint64_t again = 0, kept = 0;
    for (const auto& name : model.segments()) {
      const auto bytes = model.kept_by(name, microbatch);
      kept += bytes;
      if (checkpointing.all || checkpointing.names.contains(name)) again += bytes;
    }
    const double share = kept == 0 ? 0 : static_cast<double>(again) / static_cast<double>(kept);
    return Found{with(microbatch, checkpointing), peak, share};
  }

  // The same training, or none, with as many clips at once in an evaluation as fit, at most a microbatch.
  void widen_evaluation(Planned& out) {
    if (!meter_.has_training()) out.why = "as many clips at once as fit";
    if (limits_.eval_microbatch != 0) return;
    TrainingPlan plan = out.smallest;
    plan.eval_microbatch = limits_.microbatches.front();
    if (const auto needs = fit(plan, Room::least)) {
      out.plan = plan;
      out.needs = *needs;
    }
  }

  void describe(Planned& out, const MemoryModel* model) const {
    if (model == nullptr) return;
    out.model = *model;
    // From plenty of memory downwards: what is cheapest, and what is next where that no longer fits.
    for (std::uint64_t cap = no_limit;;) {
      std::vector<Found> all;
      for (const auto microbatch : limits_.microbatches)
        if (auto found = choose(*model, microbatch, cap)) all.push_back(std::move(*found));
      const auto best = cheapest(all);
      if (!best) return;
      const Found& found = best->found;
      out.steps.push_back({found.plan, taken(least_evaluation(), Room::least) + found.peak, found.again});
      cap = found.peak - 1;
    }
  }

  Planned refused(Planned out) {
    const auto spare = NeedsMeter::to_spare();
    std::uint64_t bytes = 0;
    if (meter_.has_training()) {
      if (const MemoryModel* model = several() ? meter_.model(spare) : nullptr) out.smallest = with_least_evaluation(smallest(*model));
      const auto training = training_of(out.smallest, spare);
      if (!training) too_little(spare);
      bytes = *training;
    }
    if (meter_.has_evaluation()) {
      const auto evaluation = evaluation_of(out.smallest, spare);
      if (!evaluation) too_little(spare);
      bytes = std::max(bytes, *evaluation);
    }
    out.smallest_needs = needs_with(bytes);
    out.plan = out.smallest;
    out.needs = out.smallest_needs;
    check_names();
    if (meter_.has_training() && several()) describe(out, meter_.model(spare));
    return out;
  }
  [[noreturn]] static void too_little(std::uint64_t spare) {
    throw Error(Code::configuration, fmt::format("this machine has not enough free memory for even the smallest pass of this model: {} are free", format_bytes(spare)),
                "use fewer or smaller frames, or a smaller model");
  }

  void check_names() const {
    if (limits_.checkpoint.mode != Mode::named || meter_.segments().empty()) return;
    const auto& known = meter_.segments();
    for (const auto& name : limits_.checkpoint.names) {
      if (std::find(known.begin(), known.end(), name) != known.end()) continue;
      const auto near = nearest(name, known, 1);
      throw Error(Code::configuration, fmt::format("plan.checkpoint names {}, and the model has no such segment", in_quotes(name)),
                  (near.empty() ? "" : fmt::format("did you mean {}? ", near.front())) + "it has: " + join(known, ", "), limits_.checkpoint.place.text());
    }
  }

  [[nodiscard]] std::string reason(const TrainingPlan& plan) const {
    if (const std::string because = whole_because(); !because.empty()) return because + twice(plan);
    const std::string text = plan.microbatch >= limits_.batch    ? limits_.microbatches.size() == 1 ? "the batch stays whole" : "the whole batch fits"
                       : limits_.microbatches.size() == 1 ? "the microbatch is pinned"
                                                          : fmt::format("{} at a time cost the least time of all that fits{}", plan.microbatch, by_measured_times_ ? ", as measured here" : "");
    return text + twice(plan);
  }
  [[nodiscard]] std::string twice(const TrainingPlan& plan) const {
    if (!automatic()) return {};
    const auto count = plan.checkpointing.all ? meter_.segments().size() : plan.checkpointing.names.size();
    return (count == 0 ? ", nothing is computed twice" : fmt::format(", {} computed twice to make it fit", counted(count, "segment")));
  }

  NeedsMeter& meter_;
  const PlanRequest& request_;
  PlanLimits limits_;
  std::optional<NeedsMeter::FewClips> few_;
  bool by_measured_times_ = false;  // the plan was chosen
};

}  // namespace

Planned make_plan(NeedsMeter& meter, const PlanRequest& request) {
  Planner planner(meter, request);
  Planned planned = planner.plan();
  planned.limits = planner.limits();
  planned.segments = meter.segments();
  planned.whole_because = planner.whole_because();
  return planned;
}

}  // namespace sluice
