// The oneTBB flow graph: one node a stage, edges from the streams, a join where branches meet, a sequencer at the end.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "framework/flow/activity.hpp"
#include "framework/flow/feed.hpp"
#include "framework/flow/host.hpp"
#include "framework/flow/wiring.hpp"

namespace sluice {

// Exactly `workers` threads run stages. Records are lent to it: every one that is admitted comes out through `arrived`, in the
// order of the sequence and one at a time, also those whose stages failed or were skipped.
class StageGraph {
 public:
  // `hosts`: by stage of the wiring, null for those that run at admission. `stopped`: from then on every node passes on.
  StageGraph(const Wiring& wiring, const std::vector<std::unique_ptr<StageHost>>& hosts, std::int64_t workers, const std::atomic<bool>& stopped,
             ActivityBoard& board, std::function<void(SampleRecord&)> arrived);
  ~StageGraph();  // drained

  void admit(SampleRecord& record);  // its arrivals are 0, its sequence follows the last one's
  void drain();                      // waits until all that was admitted has arrived; nobody admits meanwhile

  // Samples between the nodes: done with the one, not begun with the other.
  [[nodiscard]] std::vector<FeedStatus::Queue> queues(std::int64_t limit) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice
