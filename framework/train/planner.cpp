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
// weights in each pass, and a single clip leaves most kernels half idle. docs/decisions/0009-order-of-the-plan.md has the measurement,
// 0012-offload.md that of activations that leave and come back.
double time_cost(std::int64_t microbatch, std::int64_t batch, double again, double moved) {
  const double passes = microbatch >= batch ? 0 : microbatch == 1 ? 0.7 : 0.1 + 0.2 / static_cast<double>(microbatch);
  return passes + again * StepTimes::usual_twice + moved * StepTimes::usual_move;
}

class Planner {
 public:
  Planner(NeedsMeter& meter, const PlanRequest& request) : meter_(meter), request_(request), limits_(request.limits) {}

  Planned plan() {
    Planned out;
    out.smallest = with_least_evaluation(smallest(0));
    if (keeps_whole()) out.smallest = with_least_evaluation(smallest(0));
    auto least = fit(out.smallest, Room::least);
    if (keeps_whole()) {
      out.smallest = with_least_evaluation(smallest(0));
      least = fit(out.smallest, Room::least);
    }
    if (limits_.offload.mode == Mode::all && meter_.names_none()) {
      limits_.offload.mode = Mode::named;
      limits_.offload.names = {std::string(whole_model)};
      out.smallest = with_least_evaluation(smallest(0));
      least = fit(out.smallest, Room::least);
    }
    // On a device as little as that is not all that can be done.
    std::optional<TensorNeeds> on_device;
    if (may_offload()) {
      TrainingPlan plan = with_least_evaluation(smallest(store_room(least_evaluation(), Room::least, meter_.foreseen_runtime(limits_.microbatches.back()))));
      if (plan.segments.offload.any()) on_device = fit(plan, Room::least);
      if (on_device && !least) {
        out.smallest = plan;
        least = on_device;
      }
    }
    if (!least) return refused(std::move(out));
    out.smallest_needs = *least;
    out.smallest_tensors = std::min(least->tensors(), on_device ? on_device->tensors() : no_limit);
    out.plan = out.smallest;
    out.needs = *least;
    out.why = "the only plan that is allowed";
    if (!meter_.has_training() || !several()) {
      widen_evaluation(out);
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
      // The prediction was too low: by what was seen, or by nobody knows how much.
      const std::uint64_t peak = found->found.peak;
      const auto seen = meter_.measured(found->found.plan);
      const std::uint64_t over = seen ? above(*seen, peak) : peak / 32 << attempt;
      not_above = above(peak, std::max<std::uint64_t>(over, 1));
    }
    out.why = reason(out.plan);
    check_names();
    if (is_complete(known)) describe(out, *known.model);
    return out;
  }

  [[nodiscard]] const PlanLimits& limits() const { return limits_; }

  // Where what a model does beside its Pass keeps the batch in one piece.
  [[nodiscard]] std::string whole_because() const {
    const auto& beside = meter_.beside_pass();
    if (!meter_.has_training() || limits_.microbatches.front() < limits_.batch || limits_.batch == 1) return {};
    if (!beside.draws.empty()) return fmt::format("the batch stays whole, for {} draws random numbers beside its Pass", beside.draws);
    if (!beside.norm.empty()) return fmt::format("the batch stays whole, for {} takes statistics over the batch and counts as no batch norm", beside.norm);
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
    const std::string hint = fmt::format("; or {}: the batch stays whole", limits_.to_stay_whole);
    if (!beside.draws.empty())
      throw Error(Code::configuration, fmt::format("{} draws random numbers beside its Pass, and microbatches of {} would change what is drawn", beside.draws, microbatch),
                  "use pass.dropout(x, p), whose draws follow the sample, for torch::dropout" + hint);
    if (!beside.norm.empty())
      throw Error(Code::configuration, fmt::format("{} takes statistics over the batch and counts as no batch norm, and microbatches of {} would take them over fewer clips", beside.norm, microbatch),
                  "register its module (register_module), or count it in batch_norms(), so that model.batch_norm decides; or normalise each clip by itself (GroupNorm)" + hint);
    throw Error(Code::configuration, fmt::format("the model's {} moves in training and counts as no batch norm, and microbatches of {} would move it more often", beside.statistics, microbatch),
                "count it in batch_norms(), so that model.batch_norm decides" + hint);
  }

  // What gradients and activations cannot have, and can. `runtime`: what the libraries keep meanwhile.
  [[nodiscard]] std::uint64_t taken(std::int64_t eval_microbatch, Room how, std::uint64_t runtime) const {
    const TensorNeeds fixed = meter_.fixed();
    const SampleRoom samples = request_.samples(eval_microbatch);
    const std::uint64_t lasting = request_.tensors_in_host ? fixed.parameters + fixed.optimizer : 0;
    return fixed.base + runtime + lasting + request_.reserve + (how == Room::least ? samples.least : samples.useful);
  }
  [[nodiscard]] std::uint64_t room(std::int64_t eval_microbatch, Room how, std::uint64_t runtime) const {
    const std::uint64_t host = host_room(eval_microbatch, how, runtime);
    if (request_.device_memory == 0) return host;
    return request_.tensors_in_host ? std::min(host, device_room()) : device_room();
  }
  [[nodiscard]] std::uint64_t device_room() const { return above(request_.device_memory, meter_.fixed().parameters + meter_.fixed().optimizer); }
  // What gradients, activations and what is offloaded have of the host's memory, whatever the device has.
  [[nodiscard]] std::uint64_t host_room(std::int64_t eval_microbatch, Room how, std::uint64_t runtime) const { return above(request_.host_ram, taken(eval_microbatch, how, runtime)); }
  // What offloaded activations may have beside tensors that take all that the device has.
  [[nodiscard]] std::uint64_t store_room(std::int64_t eval_microbatch, Room how, std::uint64_t runtime) const {
    const std::uint64_t host = host_room(eval_microbatch, how, runtime);
    return request_.device_memory == 0 || !request_.tensors_in_host ? host : above(host, device_room());
  }

  [[nodiscard]] bool automatic() const { return limits_.checkpoint.mode == Mode::automatic; }
  [[nodiscard]] bool may_offload() const { return limits_.offload.mode == Mode::automatic && request_.device_memory > 0 && meter_.has_training(); }
  [[nodiscard]] bool several() const { return automatic() || may_offload() || limits_.microbatches.size() > 1; }
  // As the pipeline says; where it leaves them open all are computed twice and none is offloaded.
  [[nodiscard]] SegmentPlan pinned() const {
    const auto of = [](const SegmentChoice& choice, bool open) -> Segments {
      return {choice.mode == Mode::all || (open && choice.mode == Mode::automatic), {choice.names.begin(), choice.names.end()}};
    };
    return {of(limits_.checkpoint, true), of(limits_.offload, false)};
  }
  // `store`: bytes that may be offloaded, where that is open.
  [[nodiscard]] MemoryModel::Ways ways(std::uint64_t store) const {
    MemoryModel::Ways ways;
    if (!automatic()) ways.may_twice = ways.must_twice = &twice_;
    else if (meter_.names_none()) ways.may_twice = &nothing_;  // all at once is there in the backward pass anyway
    if (limits_.offload.mode != Mode::automatic) ways.must_offload = &offload_;
    if (may_offload()) ways.store = without_margin(store);
    const StepTimes usual;
    const StepTimes& times = request_.times ? *request_.times : usual;
    ways.move_cost = times.move() / std::max(times.twice(), 0.01);
    if (request_.times) ways.twice_costs = &request_.times->segments();
    return ways;
  }
  // The names of what is pinned.
  void know(const MemoryModel& model) {
    twice_ = names_of(pinned().twice, model.segments());
    offload_ = names_of(pinned().offload, model.segments());
  }
  [[nodiscard]] SegmentPlan segments_of(const MemoryModel::Choice& choice) const {
    SegmentPlan segments = pinned();
    if (automatic()) segments.twice = {false, choice.checkpointed};
    if (may_offload()) segments.offload = {false, choice.offloaded};
    return segments;
  }
  [[nodiscard]] TrainingPlan with(std::int64_t microbatch, SegmentPlan segments) const {
    return {microbatch, limits_.eval_microbatch == 0 ? microbatch : limits_.eval_microbatch, std::move(segments)};
  }

  // What may be chosen from: where three clips need more than there is, one or two may fit in more ways than computing all twice.
  struct Known {
    const MemoryModel* model = nullptr;
    std::int64_t most = std::numeric_limits<std::int64_t>::max();  // clips that it knows of
  };
  [[nodiscard]] bool is_complete(const Known& known) const { return known.model && known.most >= limits_.microbatches.front(); }
  Known what_is_known() {
    const auto runtime = meter_.foreseen_runtime(limits_.microbatches.back());
    return what_is_known(may_offload() && request_.tensors_in_host ? host_room(least_evaluation(), Room::least, runtime) : room(least_evaluation(), Room::least, runtime));
  }
  Known what_is_known(std::uint64_t cap) {
    few_.reset();
    Known known;
    if (const MemoryModel* model = meter_.model(cap)) known.model = model;
    else if ((few_ = meter_.model_of_few(cap))) known = {&few_->model, few_->most};
    if (meter_.probed_here() && request_.probed) request_.probed();
    if (known.model) know(*known.model);
    return known;
  }

  // Clips at a time; the bounds of all samples are walked through for each number that is asked about, so plans are compared by this one.
  [[nodiscard]] std::int64_t least_evaluation() const { return limits_.eval_microbatch == 0 ? 1 : limits_.eval_microbatch; }
  [[nodiscard]] TrainingPlan with_least_evaluation(TrainingPlan plan) const {
    plan.eval_microbatch = least_evaluation();
    return plan;
  }
  // Of tensors, with up to `store` bytes offloaded.
  TrainingPlan smallest(std::uint64_t store) {
    const auto microbatch = limits_.microbatches.back();
    if (!meter_.has_training()) return with(least_evaluation(), {});
    const Known known = several() ? what_is_known() : Known{};
    if (known.model && microbatch <= known.most) return smallest(*known.model, store, known.most);
    return with(microbatch, pinned());
  }
  // Kernels may need more for one clip than for two.
  TrainingPlan smallest(const MemoryModel& model, std::uint64_t store, std::int64_t most = std::numeric_limits<std::int64_t>::max()) const {
    const auto& all = limits_.microbatches;
    std::optional<std::pair<std::uint64_t, TrainingPlan>> best;
    for (std::size_t i = all.size() - std::min<std::size_t>(all.size(), 3); i < all.size(); ++i) {
      if (all[i] > most) continue;
      const auto choice = model.smallest(all[i], ways(store));
      if (!best || choice.peak < best->first) best.emplace(choice.peak, with(all[i], segments_of(choice)));
    }
    return best->second;
  }

  // The last pass of a batch may be a single clip, and that may need more than several do.
  std::optional<std::uint64_t> training_of(const TrainingPlan& plan, const std::function<std::uint64_t()>& cap) {
    const auto bytes = meter_.training(plan, cap());
    if (!bytes || plan.microbatch == 1) return bytes;
    const auto alone = meter_.training(1, plan, cap());
    return alone ? std::optional(std::max(*bytes, *alone)) : std::nullopt;
  }
  std::optional<std::uint64_t> evaluation_of(const TrainingPlan& plan, const std::function<std::uint64_t()>& cap) {
    const auto bytes = meter_.evaluation(plan.eval_microbatch, plan, cap());
    if (!bytes || plan.eval_microbatch == 1) return bytes;
    const auto alone = meter_.evaluation(1, plan, cap());
    return alone ? std::optional(std::max(*bytes, *alone)) : std::nullopt;
  }

  // What the plan needs, or nothing where it does not fit. An evaluation that was left open gets as many clips as fit.
  std::optional<TensorNeeds> fit(TrainingPlan& plan, Room how) {
    std::uint64_t bytes = 0;
    if (meter_.has_training()) {
      const auto left = [&] { return room(least_evaluation(), how, meter_.runtime(plan)); };  // it shrinks with what the libraries keep
      const auto training = training_of(plan, left);
      if (!training || *training > left()) return std::nullopt;
      bytes = *training;
      // Of the host the store has what these tensors leave, which may be more than beside a device that is full.
      if (meter_.stored(plan) + (request_.tensors_in_host ? bytes : 0) > host_room(least_evaluation(), how, meter_.runtime(plan))) return std::nullopt;
    }
    if (meter_.has_evaluation()) {
      for (;;) {
        const auto left = [&] { return room(plan.eval_microbatch, how, meter_.runtime(plan)); };
        const auto evaluation = left() < bytes ? std::nullopt : evaluation_of(plan, left);
        if (evaluation && *evaluation <= left() && bytes <= left()) {
          bytes = std::max(bytes, *evaluation);
          break;
        }
        if (limits_.eval_microbatch != 0 || plan.eval_microbatch == 1) return std::nullopt;
        plan.eval_microbatch = (plan.eval_microbatch + 1) / 2;
      }
    }
    meter_.settle(plan);
    return needs_with(bytes, plan);
  }

  [[nodiscard]] TensorNeeds needs_with(std::uint64_t pass, const TrainingPlan& plan) const {
    TensorNeeds needs = meter_.fixed();
    needs.runtime = meter_.runtime(plan);
    needs.activations = above(pass, needs.gradients);
    needs.offload = meter_.stored(plan);
    return needs;
  }

  struct Found {
    TrainingPlan plan;
    std::uint64_t peak = 0;
    double again = 0, moved = 0;  // shares of what is kept
    std::uint64_t store = 0;
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
      return measured ? *times->plain(found.plan.microbatch) * (1 + times->twice() * found.again + times->move() * found.moved)
                      : time_cost(found.plan.microbatch, limits_.batch, found.again, found.moved);
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
        const auto runtime = meter_.foreseen_runtime(microbatch);
        const auto cap = std::min(room(least_evaluation(), how, runtime), not_above);
        if (auto found = choose(*known.model, microbatch, cap, store_room(least_evaluation(), how, runtime))) all.push_back(std::move(*found));
      }
    return cheapest(all);
  }
  std::optional<Found> choose(const MemoryModel& model, std::int64_t microbatch, std::uint64_t cap, std::uint64_t store) const {
    const auto choice = model.cheapest(microbatch, without_margin(cap), ways(store));
    if (!choice) return std::nullopt;
    return Found{with(microbatch, segments_of(*choice)), with_margin(choice->peak), choice->again, choice->moved, choice->store == 0 ? 0 : with_margin(choice->store)};
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

  void describe(Planned& out, const MemoryModel& model) const {
    out.model = model;
    // From plenty of memory downwards: what is cheapest, and what is next where that no longer fits. Offloading makes a plan of nearly
    // every budget.
    const auto least = [&](std::int64_t microbatch) { return taken(least_evaluation(), Room::least, meter_.foreseen_runtime(microbatch)); };
    std::uint64_t apart = 0;
    for (std::uint64_t cap = no_limit;;) {
      std::vector<Found> all;
      for (const auto microbatch : limits_.microbatches)
        if (auto found = choose(model, microbatch, cap, above(above(request_.host_ram, least(microbatch)), request_.tensors_in_host ? cap : 0))) all.push_back(std::move(*found));
      const auto best = cheapest(all);
      if (!best) return;
      const Found& found = best->found;
      const std::uint64_t start = meter_.fixed().start, host_ram = least(found.plan.microbatch) + (request_.tensors_in_host ? found.peak : 0) + found.store;
      out.steps.push_back({found.plan, std::max(host_ram, start), meter_.fixed().parameters + meter_.fixed().optimizer + found.peak, found.again, found.moved});
      if (request_.device_memory == 0 && host_ram <= start) return;  // no budget is too small for it
      if (may_offload() && apart == 0) apart = found.peak / 256;
      if (found.peak <= apart + 1) return;
      cap = found.peak - 1 - apart;
    }
  }

  Planned refused(Planned out) {
    const auto spare = NeedsMeter::to_spare();
    const auto all = [spare] { return spare; };
    std::uint64_t bytes = 0;
    if (meter_.has_training()) {
      if (const Known known = several() ? what_is_known(spare) : Known{}; is_complete(known)) {
        out.smallest = with_least_evaluation(smallest(*known.model, may_offload() ? store_room(least_evaluation(), Room::least, meter_.foreseen_runtime(limits_.microbatches.back())) : 0));
      }
      const auto training = training_of(out.smallest, all);
      if (!training) too_little(spare);
      bytes = *training;
    }
    if (meter_.has_evaluation()) {
      const auto evaluation = evaluation_of(out.smallest, all);
      if (!evaluation) too_little(spare);
      bytes = std::max(bytes, *evaluation);
    }
    meter_.settle(out.smallest);
    out.smallest_needs = needs_with(bytes, out.smallest);
    out.smallest_tensors = out.smallest_needs.tensors();
    out.plan = out.smallest;
    out.needs = out.smallest_needs;
    check_names();
    if (!meter_.has_training() || !several()) return out;
    if (const Known known = what_is_known(spare); is_complete(known)) describe(out, *known.model);
    return out;
  }
  [[noreturn]] static void too_little(std::uint64_t spare) {
    throw Error(Code::configuration, fmt::format("this machine, or its memory cgroup, has not enough free memory for even the smallest pass of this model: {} are free", format_bytes(spare)),
                "use fewer or smaller frames, a smaller model, or, where batch norm keeps the batch whole, a smaller batch.size");
  }

  void check_names() const {
    check_names("plan.checkpoint", limits_.checkpoint);
    check_names("plan.offload", limits_.offload);
  }
  void check_names(const char* key, const SegmentChoice& choice) const {
    const auto& known = meter_.segments();
    if (choice.mode != Mode::named || (known.empty() && !meter_.names_none())) return;
    for (const auto& name : choice.names) {
      if (std::find(known.begin(), known.end(), name) != known.end()) continue;
      if (meter_.names_none() && name == whole_model) continue;
      if (meter_.names_none())
        throw Error(Code::configuration, fmt::format("{} names {}, and the model names no segments", key, in_quotes(name)),
                    fmt::format("it is one, [\"{}\"]; naming its blocks (pass.segment, docs/plugins.md) makes more of them", whole_model), choice.place.text());
      const auto near = nearest(name, known, 1);
      throw Error(Code::configuration, fmt::format("{} names {}, and the model has no such segment", key, in_quotes(name)),
                  (near.empty() ? "" : fmt::format("did you mean {}? ", near.front())) + "it has: " + join(known, ", "), choice.place.text());
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
    const auto count = [&](const Segments& segments) { return segments.all ? meter_.segments().size() : segments.names.size(); };
    const auto again = automatic() ? count(plan.segments.twice) : 0, moved = may_offload() ? count(plan.segments.offload) : 0;
    if (again == 0 && moved == 0) return automatic() ? ", nothing is computed twice" : "";
    std::vector<std::string> done;
    if (again > 0) done.push_back(fmt::format("{} computed twice", counted(again, "segment")));
    if (moved > 0) done.push_back(fmt::format("{} offloaded", again > 0 ? std::to_string(moved) : counted(moved, "segment")));
    return fmt::format(", {} to make it fit", join(done, " and "));
  }

  NeedsMeter& meter_;
  const PlanRequest& request_;
  PlanLimits limits_;
  std::optional<NeedsMeter::FewClips> few_;
  MemoryModel::Names twice_, offload_;  // that are pinned
  const MemoryModel::Names nothing_{};
  bool by_measured_times_ = false;  // the plan was chosen
};

}  // namespace

Planned make_plan(NeedsMeter& meter, const PlanRequest& request) {
  Planner planner(meter, request);
  Planned planned = planner.plan();
  planned.limits = planner.limits();
  planned.segments = meter.segments();
  planned.foreseen_runtime = meter.foreseen_runtime(planned.limits.batch);
  planned.whole_because = planner.whole_because();
  planned.probe_passes = meter.passes();
  planned.probe_steps = meter.clips() / static_cast<double>(request.limits.batch);
  return planned;
}

}  // namespace sluice
