// What a sample costs in the graph when its stages do nothing: admission, lease, tasks, checks, sequencer, batch.
//   benchmark_sample_cost            "us_per_sample" is wall time for each sample, "cpu_us_per_sample" what all threads
//   together spent on it; the aim is at most 20 us at 2 workers
#include <ctime>

#include <benchmark/benchmark.h>

#include "framework/base/clock.hpp"
#include "tests/support/fake_stages.hpp"

namespace {

using namespace sluice;
using namespace sluice::testing;

constexpr std::int64_t samples = 20000;

// Makes an array, so that there is something to pass on.
struct Make {
  static constexpr std::string_view plugin = "bench.make", reads = "text0", writes = "*";
  std::int64_t bytes = 1000;
  void operator()(Sample& sample, Rng&) const {
    for (const auto stream : sample.on()) sample.put(stream, sample.memory().array(DType::u8, {bytes}, "N"));
  }
  void out(Infos& infos) const {
    Info info;
    info.shape = {bytes};
    info.axes = "N";
    for (const auto stream : infos.on()) infos.put(stream, info);
  }
};
struct Pass {
  static constexpr std::string_view plugin = "bench.pass";
  Array operator()(Array array, Memory, Rng&) const { return array; }
};
struct Join {
  static constexpr std::string_view plugin = "bench.join";
  void operator()(Sample&, Rng&) const {}
};

double cpu_seconds() {
  timespec used{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
}

void run(benchmark::State& state, Bench& bench) {
  const Feed::Options how{.workers = state.range(0), .batch_size = 16};
  Ledger ledger(bench.cap(how) * 8);
  const auto before = cpu_seconds();
  const Stopwatch watch;
  for (auto _ : state) {
    Feed feed(bench.dataset(), bench.stages(), ledger, how, Bench::phases({Phase{}}));
    std::int64_t got = 0;
    while (const auto batch = feed.next()) got += static_cast<std::int64_t>(batch->samples.size());
    if (got != samples) state.SkipWithError("samples were lost");
  }
  const auto all = static_cast<double>(samples * state.iterations());
  state.counters["us_per_sample"] = watch.seconds() / all * 1e6;
  state.counters["cpu_us_per_sample"] = (cpu_seconds() - before) / all * 1e6;  // over all threads
}

void no_stages(benchmark::State& state) {
  Bench bench(samples);
  run(state, bench);
}
void chain(benchmark::State& state) {
  Bench bench(samples);
  bench.stage<Make>({"clip"});
  for (int i = 1; i < state.range(1); ++i) bench.stage<Pass>({"clip"});
  run(state, bench);
}
// Two streams side by side, three stages each, and a stage that reads both.
void branches(benchmark::State& state) {
  Bench bench(samples);
  for (const char* stream : {"left", "right"}) {
    bench.stage<Make>({stream});
    bench.stage<Pass>({stream});
    bench.stage<Pass>({stream});
  }
  bench.stage<Join>({"left", "right"});
  run(state, bench);
}
void large_arrays(benchmark::State& state) {
  Bench bench(samples);
  bench.stage<Make>({"clip"}).bytes = 600000;
  for (int i = 1; i < 4; ++i) bench.stage<Pass>({"clip"});
  run(state, bench);
}

BENCHMARK(no_stages)->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(chain)->Args({1, 4})->Args({2, 4})->Args({1, 8})->Args({2, 8})->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(branches)->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(large_arrays)->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
