// Implements runs.hpp.
#include "runs.hpp"

#include <algorithm>

namespace sluice::decode {

std::int32_t start_for(const VideoIndex& index, std::int32_t target) {
  const auto time = index.packets[static_cast<std::size_t>(target)].time;
  for (std::int32_t at = target; at > 0; --at) {
    const auto& packet = index.packets[static_cast<std::size_t>(at)];
    if (packet.key && packet.time <= time) return at;
  }
  return 0;
}

std::vector<Run> plan_runs(const VideoIndex& index, std::span<const std::int32_t> packets) {
  std::vector<Run> runs;
  for (const auto packet : packets) {
    Run run{start_for(index, packet), packet};
    // A start inside an earlier run: going on from there costs less than starting again.
    while (!runs.empty() && run.first <= runs.back().last + 1) {
      run.first = std::min(run.first, runs.back().first);
      runs.pop_back();
    }
    runs.push_back(run);
  }
  return runs;
}

}  // namespace sluice::decode
