// Who runs which stage on which sample since when: a seat for each thread, read by status() without stopping anybody.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <vector>

namespace sluice {

class ActivityBoard {
 private:
  struct Seat {
    std::atomic<int> stage{0};
    std::atomic<std::int64_t> sample{0};  // index, and in the lowest bit whether in training
    std::atomic<std::int64_t> since{0};   // nanoseconds of the steady clock; 0: idle
  };

 public:
  explicit ActivityBoard(std::size_t seats) : seats_(seats) {}

  struct Entry {
    int stage = -1;
    bool training = true;
    std::int64_t index = 0;
    double seconds = 0;
  };

  // Marks the seat as busy as long as it lives.
  class Scope {
   public:
    Scope(ActivityBoard& board, std::size_t seat, int stage, bool training, std::int64_t index) : seat_(board.seats_[std::min(seat, board.seats_.size() - 1)]) {
      seat_.stage.store(stage, std::memory_order_relaxed);
      seat_.sample.store(index * 2 + (training ? 1 : 0), std::memory_order_relaxed);
      seat_.since.store(now(), std::memory_order_release);
    }
    ~Scope() { seat_.since.store(0, std::memory_order_release); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Seat& seat_;
  };

  // Those that are busy, the longest first.
  [[nodiscard]] std::vector<Entry> busy() const {
    std::vector<Entry> all;
    const auto at = now();
    for (const auto& seat : seats_) {
      const auto since = seat.since.load(std::memory_order_acquire);
      if (since == 0) continue;
      const auto sample = seat.sample.load(std::memory_order_relaxed);
      const auto stage = seat.stage.load(std::memory_order_relaxed);
      if (seat.since.load(std::memory_order_acquire) != since) continue;  // it went on to another meanwhile: not the one that hangs
      all.push_back({stage, (sample & 1) != 0, sample >> 1, static_cast<double>(at - since) * 1e-9});
    }
    std::sort(all.begin(), all.end(), [](const Entry& a, const Entry& b) { return a.seconds > b.seconds; });
    return all;
  }

 private:
  static std::int64_t now() { return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

  std::vector<Seat> seats_;
};

}  // namespace sluice
