// What the live line says, and what it leaves out where it is narrow.
#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "framework/base/bytes.hpp"
#include "framework/report/console.hpp"
#include "framework/report/live.hpp"

using namespace sluice;

namespace {

LiveState example() {
  LiveState state;
  state.step = 412;
  state.total_steps = 1200;
  state.epoch = 2;
  state.epochs = 6;
  state.loss = 0.52314;
  state.clips_per_second = 41.23;
  state.seconds_left = 245;
  state.accounts[static_cast<std::size_t>(Account::activations)] = 210 * MiB;
  state.accounts[static_cast<std::size_t>(Account::samples)] = 96 * MiB;
  state.accounts[static_cast<std::size_t>(Account::parameters)] = 6 * MiB;
  state.budget = 1536 * MiB;
  state.in_flight = 3;
  state.in_flight_limit = 8;
  state.leased = 40 * MiB;
  state.lease_cap = 64 * MiB;
  state.waiting_for = "the trainer";
  state.waiting_share = 0.031;
  return state;
}

}  // namespace

TEST_CASE("the line at the widths people have") {
  // Catches a line that loses the loss before it loses the queue.
  const auto state = example();
  CHECK(live_text(state, 26) == "step 412/1200  loss 0.5231");
  CHECK(live_text(state, 45) == "step 412/1200  loss 0.5231  4 min 05 s left");
  CHECK(live_text(state, 80) == "step 412/1200  loss 0.5231  41.2 clips/s (3 % waiting for data)  4 min 05 s left");
  CHECK(live_text(state, 120) == "step 412/1200  loss 0.5231  41.2 clips/s (3 % waiting for data)  4 min 05 s left  312 MiB of 1.50 GiB");
  CHECK(live_text(state, 300) ==
        "step 412/1200  epoch 3/6  loss 0.5231  41.2 clips/s (3 % waiting for data)  4 min 05 s left  312 MiB of 1.50 GiB (activations 210 MiB, samples 96.0 MiB, "
        "parameters 6.00 MiB)  in flight 3/8, 40.0 MiB of 64.0 MiB  waits for the trainer");
  CHECK(plain_text(state) == "step 412/1200  epoch 3/6  loss 0.5231  41.2 clips/s (3 % waiting for data)  4 min 05 s left  312 MiB of 1.50 GiB  waits for the trainer");
}

TEST_CASE("a trouble stays in the line however narrow it is") {
  auto state = example();
  state.trouble = "! memory 93 %";
  CHECK(live_text(state, 41) == "step 412/1200  loss 0.5231  ! memory 93 %");
  CHECK(live_text(state, 60) == "step 412/1200  loss 0.5231  ! memory 93 %  4 min 05 s left");
}

TEST_CASE("at every width it fits, and more room never says less") {
  auto state = example();
  for (const auto* waiting : {"", "the trainer", "decode.ffmpeg on sample 3 (2.1 s): /data/\xe8\xa7\x86\xe9\xa2\x91/\xff\x1b[2J.mp4"}) {
    state.waiting_for = waiting;
    std::size_t last = 0;
    for (int width = 0; width <= 260; ++width) {
      const auto text = live_text(state, width);
      CHECK(columns_of(text) <= width);
      CHECK(text.find('\x1b') == std::string::npos);
      if (width >= 26) CHECK(text.find("step 412/1200") == 0);
      if (width >= 26) CHECK(text.size() >= last);
      last = text.size();
    }
  }
}

TEST_CASE("what is not known is not shown") {
  LiveState state;
  CHECK(live_text(state, 80) == "step 0  0 B");
  state.total_steps = 10;
  state.loss = std::nan("");
  CHECK(live_text(state, 80) == "step 0/10  loss nan  0 B");
  state.doing = "evaluating 42 %";
  state.waiting_for = "the trainer";
  CHECK(live_text(state, 80) == "step 0/10  loss nan  evaluating 42 %  0 B");
}

TEST_CASE("progress of work without steps") {
  CHECK(progress_text("reading headers", 0.419, 80) == "reading headers 41 %");
  CHECK(progress_text("reading headers of /a/long/path", 1.0, 20) == "reading hea... 100 %");
  CHECK(progress_text("x", std::nan(""), 20) == "x 0 %");
  CHECK(progress_text("x", -3, 20) == "x 0 %");
}

TEST_CASE("the rate follows the last steps, not the first") {
  // Catches a slow first step that spoils the time left for the whole run.
  Pace pace;
  CHECK(pace.clips_per_second() == 0);
  pace.step(8, 100);
  CHECK(pace.seconds_per_step() == 100);
  for (int i = 0; i < 32; ++i) pace.step(8, 0.5);
  CHECK(pace.seconds_per_step() == doctest::Approx(0.5));
  CHECK(pace.clips_per_second() == doctest::Approx(16));
}
