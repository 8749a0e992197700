// Puts the parts of the runtime together, checks first that they can work, and tells what goes on.
#include "framework/flow/feed.hpp"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "framework/base/bytes.hpp"
#include "framework/base/clock.hpp"
#include "framework/flow/admission.hpp"
#include "framework/flow/dataset_impl.hpp"
#include "framework/flow/exchange.hpp"
#include "framework/flow/graph.hpp"
#include "framework/flow/host.hpp"
#include "framework/memory/invariant.hpp"

namespace sluice {
namespace {

Feed::Options checked(Feed::Options options) {
  const auto at_least_one = [](std::int64_t value, const char* name) {
    if (value < 1) throw Error(Code::configuration, fmt::format("{} is {}, and must be at least 1", name, value));
  };
  at_least_one(options.workers, "budget.workers");
  at_least_one(options.batch_size, "batch.size");
  at_least_one(options.eval_batch_size, "the batch size of the evaluation");
  at_least_one(options.batches_ahead, "batches_ahead");
  if (options.in_flight < 0) throw Error(Code::configuration, "budget.in_flight is negative");
  return options;
}

struct Checked {
  Admission::Limits limits;
  std::uint64_t typical = 1;
};

// DESIGN section 2: with cap >= (batch - 1) x place + largest the batch at hand always comes together.
Checked check_cap(const Dataset& dataset, const Stages& stages, std::uint64_t cap, const Feed::Options& options) {
  Checked checked;
  for (const auto split : {Split::train, Split::val}) {
    if (dataset.samples(split) == 0 || (split == Split::train && !options.trains)) continue;
    const auto size = options.chunking.on() ? 1 : split == Split::train ? options.batch_size : options.eval_batch_size;  // a chunk comes and goes by itself
    const auto bounds = sample_bounds(dataset, stages, split, cap, size, options.chunking);
    if (options.check_cap && !bounds.runs())
      throw Error(Code::configuration,
                  fmt::format("the samples' share of the budget is too small: {} of {} samples, {} each while they are made, need {}, and there are {}",
                              split == Split::train ? "a batch" : "a batch of the evaluation", size, format_bytes(bounds.typical), format_bytes(bounds.smallest), format_bytes(cap)),
                  fmt::format("{} bytes for the samples is the least that works; with {} no sample is too large", bounds.smallest, format_bytes(bounds.smallest_all)));
    const auto at = static_cast<std::size_t>(split);
    checked.limits.largest[at] = options.check_cap ? bounds.largest : cap;
    checked.limits.batch_needs[at] = static_cast<std::uint64_t>(size - 1) * bounds.place;
    checked.typical = std::max(checked.typical, bounds.typical);
  }
  return checked;
}

// Enough that a slow sample at the head does not leave the workers idle; never more than the bytes allow.
std::int64_t samples_in_flight(const Feed::Options& options, std::uint64_t cap, std::uint64_t typical) {
  if (options.in_flight > 0) return options.in_flight;
  const auto fit = static_cast<std::int64_t>(std::min<std::uint64_t>(cap / typical, 1u << 20));
  return std::clamp<std::int64_t>(fit, 1, std::max<std::int64_t>(8, 4 * options.workers));
}

}  // namespace

struct Feed::Impl {
  const Dataset::Impl& dataset;
  Ledger& ledger;
  const Options options;
  const Checked checked_cap;
  const std::int64_t in_flight;
  const StreamTable streams;
  FramePool pool;
  ActivityBoard board;
  std::atomic<bool> stopped{false};
  std::stop_source ask_to_stop;
  std::vector<std::unique_ptr<StageHost>> hosts;
  Exchange exchange;
  std::unique_ptr<StageGraph> graph;
  std::unique_ptr<Admission> admission;
  std::thread thread;

  Impl(const Dataset& data, Stages& stages, Ledger& samples, Options wanted, std::function<std::optional<Phase>(std::uint64_t)> phase)
      : dataset(data.impl()), ledger(samples), options(checked(std::move(wanted))), checked_cap(check_cap(data, stages, samples.cap(), options)),
        in_flight(samples_in_flight(options, samples.cap(), checked_cap.typical)), streams(dataset), pool(samples.cap()),
        board(static_cast<std::size_t>(options.workers) + 2),
        exchange(dataset, streams, {static_cast<std::size_t>(in_flight), batches_ahead(), streams.size(), stages.items.size()}, [this] { end(); }) {
    invariant(stages.items.size() == dataset.wiring.stages.size(), "a feed was given other stages than its dataset");
    for (std::size_t i = 0; i < stages.items.size(); ++i)
      hosts.push_back(dataset.wiring.stages[i].at_admission() ? nullptr : std::make_unique<StageHost>(dataset, stages.items[i], i, streams, pool, options.seed));
    for (const auto& [stage, state] : options.states) load(stage, state);
    pool.fail_at(options.fail_at.first, options.fail_at.second);
    graph = std::make_unique<StageGraph>(dataset.wiring, hosts, options.workers, stopped, board, [this](SampleRecord& record) { exchange.arrived(record); });
    admission = std::make_unique<Admission>(dataset, stages, ledger, pool, options, checked_cap.limits, std::move(phase), exchange, *graph, board);
    thread = std::thread([this] { admission->run(ask_to_stop.get_token()); });
  }

  ~Impl() {
    stop();
    thread.join();
    graph->drain();
    exchange.check_all_back();
  }

  // So many batches may be on their way that the samples in flight never wait for a batch that is not begun.
  [[nodiscard]] std::int64_t batches_ahead() const {
    const auto smaller = options.chunking.on() ? 1 : std::min(options.batch_size, options.eval_batch_size);
    return std::max(options.batches_ahead, (in_flight + smaller - 1) / smaller);
  }

  void load(const std::string& stage, const std::string& state) {
    for (const auto& host : hosts)
      if (host && host->name() == stage && host->shape().ordered() && host->has_state()) return host->load(state);
    throw Error(Code::configuration, "the checkpoint holds the state of stage " + stage + ", which this pipeline does not have", "resume with the pipeline that the run was started with");
  }

  // Nothing more is admitted; what is in the graph passes on.
  void end() {
    stopped.store(true);
    ask_to_stop.request_stop();
  }
  void stop() {
    end();
    exchange.stop();
  }

  void add_waiting(FeedStatus& status, const Exchange::Counters& counters) const {
    const auto bytes = admission->waiting();
    if (counters.ready > 0 && !counters.trainer_waits) {
      status.waiting_for = "the trainer";
    } else if (!status.running.empty()) {
      const auto& longest = status.running.front();
      status.waiting_for = fmt::format("{} on {} ({})", longest.stage, longest.sample, format_duration(longest.seconds));
      status.waiting_seconds = longest.seconds;
    } else if (bytes) {
      status.waiting_for = bytes->what;
      status.waiting_seconds = bytes->seconds;
    } else if (counters.ended) {
      status.waiting_for = "nothing: all samples are through";
    } else if (exchange.admission_waits_for_trainer()) {
      status.waiting_for = "the trainer";
    } else {
      status.waiting_for = "admission";
    }
  }

  [[nodiscard]] FeedStatus status() const {
    FeedStatus status;
    const auto counters = exchange.counters();
    status.admitted = counters.admitted;
    status.finished = counters.finished;
    status.failed = counters.failed;
    status.leased = ledger.used();
    status.cap = ledger.cap();
    status.refused = pool.counters().refused;
    status.in_flight = counters.in_flight;
    status.in_flight_limit = in_flight;
    for (const auto& entry : board.busy())
      status.running.push_back({dataset.wiring.stages[static_cast<std::size_t>(entry.stage)].name,
                                sample_name(dataset, entry.training ? Split::train : Split::val, entry.index), entry.seconds});
    status.queues = graph->queues(in_flight);
    status.queues.push_back({"batch -> hand-off", counters.gathered, std::max(options.batch_size, options.eval_batch_size)});
    status.queues.push_back({"hand-off -> trainer (batches)", counters.ready, counters.batch_limit});
    add_waiting(status, counters);
    return status;
  }
};

Feed::Feed(const Dataset& dataset, Stages& stages, Ledger& samples, Options options, std::function<std::optional<Phase>(std::uint64_t)> phase)
    : impl_(std::make_unique<Impl>(dataset, stages, samples, std::move(options), std::move(phase))) {}
Feed::~Feed() = default;

std::optional<Batch> Feed::next() { return impl_->exchange.next(); }
void Feed::stop() { impl_->stop(); }
FeedStatus Feed::status() const { return impl_->status(); }

}  // namespace sluice
