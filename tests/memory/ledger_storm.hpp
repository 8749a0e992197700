// Random acquiring, shrinking, moving, throwing and releasing on several threads, against a shadow counter.
#pragma once

#include <atomic>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <sluice/rng.hpp>

#include "framework/memory/ledger.hpp"

namespace sluice::testing {

// Empty, or what was wrong.
inline std::string ledger_storm(int threads, std::int64_t operations, std::uint64_t seed) {
  constexpr std::int64_t cap = 10000;
  Ledger ledger(cap);
  std::atomic<std::int64_t> shadow{0};   // added after a lease is there, taken off before it goes: never above the truth
  std::atomic<std::int64_t> highest{0};
  const auto note = [&](std::int64_t change) {
    const auto now = shadow.fetch_add(change) + change;
    for (auto seen = highest.load(); now > seen && !highest.compare_exchange_weak(seen, now);) {
    }
  };
  const auto work = [&](int thread) {
    Rng rng(abi::RandomKey{seed, static_cast<std::uint64_t>(thread), 0, 0});
    std::vector<Lease> held;
    const auto drop = [&](std::size_t i) {
      note(-static_cast<std::int64_t>(held[i].bytes()));
      held[i] = std::move(held.back());
      held.pop_back();
    };
    for (std::int64_t n = 0; n < operations / threads; ++n) {
      const auto what = rng.index(6);
      if (what < 2) {
        // Who waits holds nothing: so the storm itself cannot deadlock.
        if (what == 0) while (!held.empty()) drop(held.size() - 1);
        const auto bytes = static_cast<std::uint64_t>(rng.index(cap / 2));
        auto lease = what == 0 ? ledger.acquire(bytes) : ledger.try_acquire(bytes);
        if (!lease) continue;
        note(static_cast<std::int64_t>(lease->bytes()));
        held.push_back(std::move(*lease));
      } else if (held.empty()) {
        continue;
      } else if (what == 2) {
        drop(static_cast<std::size_t>(rng.index(static_cast<std::int64_t>(held.size()))));
      } else if (what == 3) {
        auto& lease = held[static_cast<std::size_t>(rng.index(static_cast<std::int64_t>(held.size())))];
        const auto left = static_cast<std::uint64_t>(rng.index(static_cast<std::int64_t>(lease.bytes()) + 1));
        note(static_cast<std::int64_t>(left) - static_cast<std::int64_t>(lease.bytes()));
        lease.shrink_to(left);
      } else if (what == 4) {
        Lease moved = std::move(held.back());
        held.back() = std::move(moved);
      } else {
        try {
          const Lease doomed = std::move(held.back());
          held.pop_back();
          note(-static_cast<std::int64_t>(doomed.bytes()));
          throw std::runtime_error("on purpose");
        } catch (const std::runtime_error&) {
        }
      }
    }
    while (!held.empty()) drop(held.size() - 1);
  };
  {
    std::vector<std::jthread> all;
    for (int i = 0; i < threads; ++i) all.emplace_back(work, i);
  }
  if (highest > cap) return "the leases held " + std::to_string(highest) + " of " + std::to_string(cap);
  if (ledger.peak() > static_cast<std::uint64_t>(cap)) return "the ledger's peak is " + std::to_string(ledger.peak());
  if (highest > static_cast<std::int64_t>(ledger.peak())) return "the ledger's peak is below what was held";
  if (ledger.used() != 0 || ledger.leases() != 0) return std::to_string(ledger.used()) + " bytes were lost";
  return {};
}

}  // namespace sluice::testing
