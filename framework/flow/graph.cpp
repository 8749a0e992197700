// The only file that includes oneTBB. What each choice prevents was measured; docs/decisions has the list.
#include "framework/flow/graph.hpp"

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>

#include <oneapi/tbb/flow_graph.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

namespace sluice {
namespace {

namespace flow = oneapi::tbb::flow;

using Message = SampleRecord*;  // lent: a message that a cancelled node forgets would leak nothing
using Node = flow::multifunction_node<Message, std::tuple<Message>, flow::queueing>;
using Sequencer = flow::sequencer_node<Message>;

}  // namespace

struct StageGraph::Impl {
  // A limit of one more than `workers` and an arena without a seat for the caller give exactly `workers` threads.
  oneapi::tbb::global_control limit;
  oneapi::tbb::task_arena arena;
  const Wiring& wiring;
  const std::vector<std::unique_ptr<StageHost>>& hosts;
  const std::atomic<bool>& stopped;
  ActivityBoard& board;
  std::function<void(SampleRecord&)> arrived;

  struct Edge {
    std::string name;
    std::atomic<std::int64_t> items{0};
  };
  struct Place {  // a node, by the number of its stage; the last is the join of all branches
    int predecessors = 0;
    std::vector<Edge*> in, out;
  };
  std::vector<std::unique_ptr<Edge>> edges;
  std::vector<Place> places;
  std::vector<std::size_t> roots;
  Edge* last = nullptr;

  std::unique_ptr<flow::graph> graph;
  std::vector<std::unique_ptr<Node>> entries;  // where messages come in and are counted; for a stage that is not ordered, it runs here
  std::vector<std::unique_ptr<Sequencer>> sequencers;
  std::vector<std::unique_ptr<Node>> ordered;  // run behind their sequencer
  std::unique_ptr<Sequencer> in_order;
  std::unique_ptr<Node> exit;

  Impl(const Wiring& what, const std::vector<std::unique_ptr<StageHost>>& stage_hosts, std::int64_t workers, const std::atomic<bool>& stop, ActivityBoard& seats,
       std::function<void(SampleRecord&)> out)
      : limit(oneapi::tbb::global_control::max_allowed_parallelism, static_cast<std::size_t>(workers) + 1), arena(static_cast<int>(workers), 0),
        wiring(what), hosts(stage_hosts), stopped(stop), board(seats), arrived(std::move(out)), places(what.stages.size() + 1), entries(what.stages.size() + 1),
        sequencers(what.stages.size()), ordered(what.stages.size()) {
    arena.execute([&] { graph = std::make_unique<flow::graph>(); });  // binds it to the arena
    count_edges();
    make_nodes();
    connect();
  }

  [[nodiscard]] std::size_t end() const { return places.size() - 1; }

  Edge* edge(const std::string& from, const std::string& to) {
    edges.push_back(std::make_unique<Edge>());
    edges.back()->name = from + " -> " + to;
    return edges.back().get();
  }

  void count_edges() {
    const auto link = [&](const std::string& from, Place* source, std::size_t to) {
      auto* made = edge(from, to == end() ? "sequencer" : hosts[to]->name());
      if (source) source->out.push_back(made);
      places[to].in.push_back(made);
      ++places[to].predecessors;
    };
    for (std::size_t i = 0; i < hosts.size(); ++i) {
      if (!hosts[i]) continue;
      for (const int before : wiring.before[i])
        if (const auto from = static_cast<std::size_t>(before); hosts[from]) link(hosts[from]->name(), &places[from], i);
      if (places[i].predecessors == 0) roots.push_back(i), link("admission", nullptr, i);
    }
    for (std::size_t i = 0; i < hosts.size(); ++i)
      if (hosts[i] && places[i].out.empty()) link(hosts[i]->name(), &places[i], end());
    if (places[end()].predecessors == 0) roots.push_back(end()), link("admission", nullptr, end());
    last = edge("sequencer", "batch");
  }

  // Later stages first: what is nearly done goes on before anything new begins.
  static flow::node_priority_t priority(std::size_t place) { return static_cast<flow::node_priority_t>(place + 1); }

  void make_nodes() {
    for (std::size_t i = 0; i < hosts.size(); ++i) {
      if (!hosts[i]) continue;
      if (hosts[i]->shape().ordered()) {
        entries[i] = std::make_unique<Node>(*graph, flow::unlimited, [this, i](Message record, Node::output_ports_type& out) {
          if (complete(i, *record)) std::get<0>(out).try_put(record);
        }, priority(i));
        sequencers[i] = std::make_unique<Sequencer>(*graph, [](Message record) { return static_cast<std::size_t>(record->sequence); });
        ordered[i] = std::make_unique<Node>(*graph, flow::serial, [this, i](Message record, Node::output_ports_type& out) {
          run(i, *record);
          leave(i, *record, out);
        }, priority(i));
        continue;
      }
      const auto instances = hosts[i]->instances();
      entries[i] = std::make_unique<Node>(*graph, flow::unlimited, [this, i](Message record, Node::output_ports_type& out) {
        if (!complete(i, *record)) return;
        run(i, *record);
        leave(i, *record, out);
      }, priority(i));
      if (instances > 0) limit_calls(i, instances);
    }
    entries[end()] = std::make_unique<Node>(*graph, flow::unlimited, [this](Message record, Node::output_ports_type& out) {
      if (!complete(end(), *record)) return;
      if (record->failure() && !record->fatal()) record->drop();  // its bytes serve others while the sequencer waits for its turn
      last->items.fetch_add(1, std::memory_order_relaxed);
      std::get<0>(out).try_put(record);
    }, priority(end()));
    in_order = std::make_unique<Sequencer>(*graph, [](Message record) { return static_cast<std::size_t>(record->sequence); });
    exit = std::make_unique<Node>(*graph, flow::serial, [this](Message record, Node::output_ports_type&) {
      last->items.fetch_sub(1, std::memory_order_relaxed);
      arrived(*record);
    }, priority(end() + 1));
  }

  // A stage that is not const has one instance a worker. The count of arrivals needs every message, so where branches meet
  // the counting node stays unlimited and the stage runs in a node of its own behind it.
  void limit_calls(std::size_t i, std::size_t instances) {
    ordered[i] = std::make_unique<Node>(*graph, instances, [this, i](Message record, Node::output_ports_type& out) {
      run(i, *record);
      leave(i, *record, out);
    }, priority(i));
    entries[i] = std::make_unique<Node>(*graph, flow::unlimited, [this, i](Message record, Node::output_ports_type& out) {
      if (complete(i, *record)) std::get<0>(out).try_put(record);
    }, priority(i));
  }

  void connect() {
    const auto exit_of = [&](std::size_t i) -> Node& { return ordered[i] ? *ordered[i] : *entries[i]; };
    for (std::size_t i = 0; i < hosts.size(); ++i) {
      if (!hosts[i]) continue;
      if (sequencers[i]) {
        flow::make_edge(flow::output_port<0>(*entries[i]), *sequencers[i]);
        flow::make_edge(*sequencers[i], *ordered[i]);
      } else if (ordered[i]) {
        flow::make_edge(flow::output_port<0>(*entries[i]), *ordered[i]);
      }
      bool sink = true;
      for (const int after : wiring.after[i]) {
        if (!hosts[static_cast<std::size_t>(after)]) continue;
        flow::make_edge(flow::output_port<0>(exit_of(i)), *entries[static_cast<std::size_t>(after)]);
        sink = false;
      }
      if (sink) flow::make_edge(flow::output_port<0>(exit_of(i)), *entries[end()]);
    }
    flow::make_edge(flow::output_port<0>(*entries[end()]), *in_order);
    flow::make_edge(*in_order, *exit);
  }

  // Counts an arrival; true for the last one.
  bool complete(std::size_t place, SampleRecord& record) {
    auto& here = places[place];
    if (record.arrivals[place].fetch_add(1, std::memory_order_acq_rel) + 1 < here.predecessors) return false;
    for (auto* in : here.in) in->items.fetch_sub(1, std::memory_order_relaxed);
    return true;
  }

  // After it the record may be gone.
  void leave(std::size_t place, SampleRecord& record, Node::output_ports_type& out) {
    for (auto* edge : places[place].out) edge->items.fetch_add(1, std::memory_order_relaxed);
    std::get<0>(out).try_put(&record);
  }

  void run(std::size_t i, SampleRecord& record) {
    auto& state = record.states[i];
    const auto blocked = [&](int before) {
      const auto was = record.states[static_cast<std::size_t>(before)];
      return was == StageState::failed || was == StageState::skipped;
    };
    if (stopped.load(std::memory_order_relaxed) || record.mark || record.refused || record.in_vain() || std::any_of(wiring.before[i].begin(), wiring.before[i].end(), blocked)) {
      state = StageState::skipped;
    } else if (!record.plan->stages[i].active) {
      state = StageState::done;
    } else {
      // Isolated: a library that runs tasks of its own inside the stage must not pick up another sample meanwhile.
      oneapi::tbb::this_task_arena::isolate([&] {
        const auto seat = oneapi::tbb::this_task_arena::current_thread_index();
        const ActivityBoard::Scope busy(board, seat < 0 ? ~std::size_t{0} : static_cast<std::size_t>(seat), static_cast<int>(i), record.training(), record.index);
        hosts[i]->run(record);
      });
    }
    if (record.ends_batch && hosts[i]->shape().ordered() && hosts[i]->has_state()) hosts[i]->save(record);
  }
};

StageGraph::StageGraph(const Wiring& wiring, const std::vector<std::unique_ptr<StageHost>>& hosts, std::int64_t workers, const std::atomic<bool>& stopped,
                       ActivityBoard& board, std::function<void(SampleRecord&)> arrived)
    : impl_(std::make_unique<Impl>(wiring, hosts, workers, stopped, board, std::move(arrived))) {}

StageGraph::~StageGraph() { drain(); }

void StageGraph::admit(SampleRecord& record) {
  for (const auto root : impl_->roots) impl_->places[root].in[0]->items.fetch_add(1, std::memory_order_relaxed);
  for (const auto root : impl_->roots) impl_->entries[root]->try_put(&record);
}

void StageGraph::drain() { impl_->graph->wait_for_all(); }

std::vector<FeedStatus::Queue> StageGraph::queues(std::int64_t limit) const {
  std::vector<FeedStatus::Queue> all;
  for (const auto& edge : impl_->edges) all.push_back({edge->name, std::max<std::int64_t>(0, edge->items.load(std::memory_order_relaxed)), limit});
  return all;
}

}  // namespace sluice
