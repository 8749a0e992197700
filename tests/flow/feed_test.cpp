// The feed as the trainer sees it: order, content and number of samples, whatever the workers and the memory.
#include <doctest/doctest.h>

#include <numeric>
#include <set>

#include "tests/support/fake_stages.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

const std::vector<std::int64_t> worker_counts{1, 2, 3, 7};

// Two branches that meet: text0 -> a -> a', text1 -> b, and a join that reads both; with drops, throws and sleeps.
void two_branches(Bench& bench) {
  auto& a = bench.fake({"text0"}, {"a"});
  a.bytes = 3000, a.sleep = 0.3;
  auto& again = bench.fake({"a"}, {"a"});
  again.bytes = 9000, again.drop = 0.05, again.scratch = 5000;
  auto& b = bench.fake({"text1"}, {"b"});
  b.bytes = 20000, b.varying = 5000, b.fail = 0.05, b.sleep = 0.2;
  auto& join = bench.fake({"a", "b"}, {"joined"});
  join.bytes = 500;
  auto& beside = bench.fake({"a", "label"}, {"beside"});
  beside.bytes = 10;
}

}  // namespace

TEST_CASE("order and content do not depend on the workers, the budget or the samples in flight") {
  // Catches: a sequencer in the wrong place, a random number keyed by thread or time, a batch cut by arrival.
  Bench bench(200, 50, 2);
  two_branches(bench);
  const std::vector<Phase> phases{{Phase::Kind::train, 0, 0}, {Phase::Kind::eval, 0, 0}, {Phase::Kind::train, 1, 0}};
  Feed::Options how{.workers = 1, .batch_size = 8, .eval_batch_size = 16, .seed = 3};
  const Run first = bench.run(how, phases);
  CHECK(first.finished + first.failed == 450);
  CHECK(first.failed > 10);
  CHECK(first.lasts == 3);
  CHECK(first.batches.size() == 25 + 4 + 25);
  for (const auto workers : worker_counts) {
    for (const std::uint64_t factor : {1, 2, 10}) {
      for (const std::int64_t in_flight : {0, 1, 5}) {
        how.workers = workers;
        how.in_flight = in_flight;
        const Run other = bench.run(how, phases, bench.cap(how) * factor);
        INFO("workers " << workers << ", cap x " << factor << ", in flight " << in_flight);
        CHECK(other.digest == first.digest);
        CHECK(other.error == "");
        CHECK(bench.left_over == 0);
      }
    }
  }
}

TEST_CASE("an epoch holds every sample once, shuffled by seed and epoch; evaluation is in order") {
  Bench bench(101, 33);
  bench.fake({"text0"}, {"a"});
  const auto epoch = [&](std::uint64_t number, std::uint64_t seed) {
    const Run run = bench.run({.workers = 2, .batch_size = 10, .seed = seed}, {{Phase::Kind::train, number, 0}});
    std::vector<std::int64_t> order;
    for (const auto& batch : run.indices) order.insert(order.end(), batch.begin(), batch.end());
    return order;
  };
  const auto order = epoch(0, 1);
  CHECK(order.size() == 101);
  CHECK(std::set<std::int64_t>(order.begin(), order.end()).size() == 101);
  CHECK_FALSE(std::is_sorted(order.begin(), order.end()));
  CHECK(order == epoch(0, 1));
  CHECK(order != epoch(1, 1));
  CHECK(order != epoch(0, 2));

  const Run eval = bench.run({.workers = 2, .eval_batch_size = 10}, {{Phase::Kind::eval, 0, 0}});
  REQUIRE(eval.indices.size() == 4);
  CHECK(eval.indices[3] == std::vector<std::int64_t>{30, 31, 32});  // nothing is dropped
  CHECK(eval.indices[0].front() == 0);
}

TEST_CASE("drop_last leaves out the training's partial batch and nothing of the evaluation") {
  Bench bench(25, 25);
  bench.fake({"text0"}, {"a"});
  const Run run = bench.run({.workers = 2, .batch_size = 10, .eval_batch_size = 10, .drop_last = true}, {{Phase::Kind::train, 0, 0}, {Phase::Kind::eval, 0, 0}});
  CHECK(run.finished == 20 + 25);
  CHECK(run.lasts == 2);
}

TEST_CASE("a resumed feed gives the remaining batches, bit for bit") {
  // Catches: a shuffle or random number that depends on where the run began, state of an ordered stage that is lost.
  for (const auto workers : worker_counts) {
    Bench bench(60, 0, 2);
    two_branches(bench);
    bench.fake<FakeOrdered>({"joined"}, {"joined"});
    Feed::Options how{.workers = workers, .batch_size = 7, .seed = 5};
    const Run whole = bench.run(how, {{Phase::Kind::train, 0, 0}, {Phase::Kind::train, 1, 0}});
    REQUIRE(whole.batches.size() == 18);
    for (const std::int64_t from : {1, 4, 8}) {
      how.states = whole.states[static_cast<std::size_t>(from) - 1];
      const Run rest = bench.run(how, {{Phase::Kind::train, 0, from}, {Phase::Kind::train, 1, 0}});
      CHECK(rest.batches == std::vector<std::uint64_t>(whole.batches.begin() + from, whole.batches.end()));
    }
    how.states = whole.states[8];  // exactly between the epochs: the rest of the first is one empty batch
    const Run rest = bench.run(how, {{Phase::Kind::train, 0, 9}, {Phase::Kind::train, 1, 0}});
    REQUIRE(rest.batches.size() == 10);
    CHECK(rest.indices[0].empty());
    CHECK(rest.lasts == 2);
  }
}

TEST_CASE("a phase without samples ends with an empty last batch") {
  Bench bench(5);
  bench.fake({"text0"}, {"a"});
  const Run run = bench.run({.workers = 2, .batch_size = 2}, {{Phase::Kind::eval, 0, 0}, {Phase::Kind::train, 0, 0}});
  CHECK(run.lasts == 2);
  CHECK(run.finished == 5);
  CHECK(run.batches.size() == 4);
}

TEST_CASE("a pipeline without stages hands over what the source gives") {
  Bench bench(5);
  const Run run = bench.run({.workers = 2, .batch_size = 2}, {Phase{}});
  CHECK(run.finished == 5);
}

TEST_CASE("samples that fail leave the others' batches as they are") {
  // Catches: a batch that is filled up with the next sample, so that one bad file shifts all that follow.
  const auto indices = [](double drop) {
    Bench bench(100);
    bench.fake({"text0"}, {"a"}).drop = drop;
    return bench.run({.workers = 3, .batch_size = 10, .seed = 1}, {Phase{}}).indices;
  };
  const auto whole = indices(0);
  const auto holes = indices(0.2);
  REQUIRE(holes.size() == whole.size());
  for (std::size_t b = 0; b < whole.size(); ++b) {
    for (const auto index : holes[b]) CHECK(std::count(whole[b].begin(), whole[b].end(), index) == 1);
    CHECK(std::is_sorted(holes[b].begin(), holes[b].end(), [&](auto x, auto y) {
      return std::find(whole[b].begin(), whole[b].end(), x) < std::find(whole[b].begin(), whole[b].end(), y);
    }));
  }
}

TEST_CASE("whichever allocation finds the system without memory, the batches are the same; where it lasts, the flow ends with code 7") {
  // Catches: a sample that is dropped for want of memory, draws that go on where the failed call stopped, bytes that are lost.
  Bench bench(10, 4, 2);
  two_branches(bench);
  const std::vector<Phase> phases{{Phase::Kind::train, 0, 0}, {Phase::Kind::eval, 0, 0}};
  Feed::Options how{.workers = 2, .batch_size = 4, .eval_batch_size = 4, .seed = 3};
  const Run first = bench.run(how, phases);
  CHECK(first.refused == 0);
  std::uint64_t n = 1;
  for (bool fired = true; fired; ++n) {
    how.fail_at = {n, 1};
    const Run other = bench.run(how, phases);
    CAPTURE(n);
    CHECK(other.error == "");
    CHECK(other.digest == first.digest);
    CHECK(bench.left_over == 0);
    REQUIRE(other.refused <= 1);
    fired = other.refused == 1;
  }
  CHECK(n > 14 * 5);  // a label and at least four streams of each sample
  MESSAGE("each of ", n - 2, " blocks failed once");
  how.fail_at = {20, 1000};
  const Run ended = bench.run(how, phases);
  CHECK(ended.error.find("out of memory") != std::string::npos);
  CHECK(bench.left_over == 0);
}

TEST_CASE("a batch whose samples all fail still comes") {
  Bench bench(10);
  bench.fake({"text0"}, {"a"}).drop = 1;
  const Run run = bench.run({.workers = 2, .batch_size = 5}, {Phase{}});
  CHECK(run.batches.size() == 2);
  CHECK(run.failed == 10);
  REQUIRE(run.failures.size() == 10);
  CHECK(run.failures[0].why == "dropped on purpose");
  CHECK(run.failures[0].where.find("stage fake.stage (p.toml:10:1), sample ") == 0);
}

TEST_CASE("a stage on which nothing else depends does not hide a failure, and the message does not depend on timing") {
  // Both branches fail on the same samples; the one that stands first in the file is named, whoever was faster.
  for (const auto workers : worker_counts) {
    Bench bench(30, 0, 2);
    auto& slow = bench.fake({"text0"}, {"a"});
    slow.drop = 1, slow.sleep = 1, slow.pause = std::chrono::microseconds(300);
    bench.fake({"text1"}, {"b"}).fail = 1;
    const Run run = bench.run({.workers = workers, .batch_size = 5}, {Phase{}});
    for (const auto& failed : run.failures) CHECK(failed.why == "dropped on purpose");
  }
}

TEST_CASE("stages for training or evaluation alone") {
  Bench bench(10, 10);
  bench.fake({"text0"}, {"a"}).bytes = 10;
  bench.fake({"a"}, {"a"}, "train").bytes = 20;
  bench.fake({"a"}, {"a"}, "eval").bytes = 30;
  std::vector<std::uint64_t> sizes;
  bench.run({.workers = 2, .batch_size = 10, .eval_batch_size = 10}, {{Phase::Kind::train, 0, 0}, {Phase::Kind::eval, 0, 0}}, 0,
            [&](Feed&, const Batch& batch) { sizes.push_back(batch.samples.at(0).arrays.at(0).second.bytes()); });
  CHECK(sizes == std::vector<std::uint64_t>{20, 30});
}

TEST_CASE("an ordered stage sees the samples in order, a stage that is not const runs once at a time in each instance") {
  for (const auto workers : worker_counts) {
    Bench bench(200);
    auto& first = bench.fake<FakeScratch>({"text0"}, {"a"}, "", static_cast<int>(workers));
    first.sleep = 0.5;
    auto& ordered = bench.fake<FakeOrdered>({"a"}, {"a"});
    const Run run = bench.run({.workers = workers, .batch_size = 8, .shuffle = false}, {Phase{}});
    CHECK(run.error == "");
    CHECK(run.finished == 200);
    std::vector<std::uint64_t> expected(200);
    std::iota(expected.begin(), expected.end(), 0);
    CHECK(ordered.numbers == expected);
  }
}

TEST_CASE("streams with a dot in their name stay behind") {
  Bench bench(3);
  bench.fake({"text0"}, {"a", "a.times"});
  bench.run({.workers = 1, .batch_size = 3}, {Phase{}}, 0, [](Feed&, const Batch& batch) {
    REQUIRE(batch.samples.at(0).arrays.size() == 2);
    CHECK(batch.samples[0].arrays[0].first == "a");
    CHECK(batch.samples[0].arrays[1].first == "label");
    CHECK(batch.samples[0].texts.at(0).first == "text0");
  });
}

TEST_CASE("a batch may outlive its feed") {
  // Catches: arrays whose pool died with the feed.
  Bench bench(4);
  bench.fake({"text0"}, {"a"}).bytes = 100000;
  Ledger ledger(bench.cap({.batch_size = 4}));
  std::optional<Batch> batch;
  {
    Feed feed(bench.dataset(), bench.stages(), ledger, {.workers = 2, .batch_size = 4}, Bench::phases({Phase{}}));
    batch = feed.next();
  }
  REQUIRE(batch);
  CHECK(ledger.used() > 0);
  batch->samples[0].arrays[0].second.data()[99999] = 1;
  batch.reset();
  CHECK(ledger.used() == 0);
}

TEST_CASE("what is asked for wrongly is an error at once") {
  Bench bench(4);
  bench.fake({"text0"}, {"a"});
  Ledger ledger(1 << 20);
  for (const Feed::Options& how : {Feed::Options{.workers = 0}, Feed::Options{.batch_size = 0}, Feed::Options{.in_flight = -1}, Feed::Options{.batches_ahead = 0},
                                   Feed::Options{.states = {{"fake.stage", "x"}}}})
    CHECK_THROWS_AS(Feed(bench.dataset(), bench.stages(), ledger, how, Bench::phases({Phase{}})), Error);
}

TEST_CASE("an error of the caller's phase function ends the flow, after the batches before it") {
  Bench bench(4);
  bench.fake({"text0"}, {"a"});
  Ledger ledger(1 << 20);
  Feed feed(bench.dataset(), bench.stages(), ledger, {.workers = 2, .batch_size = 2}, [](std::uint64_t n) -> std::optional<Phase> {
    if (n == 1) throw Error(Code::configuration, "no more");
    return Phase{};
  });
  CHECK(feed.next().has_value());
  CHECK(feed.next().has_value());
  CHECK_THROWS_WITH(static_cast<void>(feed.next()), "no more");
}
