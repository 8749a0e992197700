// The ledger: every byte of the budget has an account, and leases are the only way to hold bytes of the samples' share.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string_view>

namespace sluice {

enum class Account : int {
  base, runtime, decoders, samples, batches, parameters, gradients, optimizer, activations, checkpoint, reserve, count_
};
std::string_view name_of(Account account);

class Ledger;

// Bytes held from the ledger. Move-only; only shrinks; returns what is left when it is destroyed.
class Lease {
 public:
  Lease() = default;
  Lease(Lease&& other) noexcept;
  Lease& operator=(Lease&& other) noexcept;
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease();

  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  // Gives bytes back until `bytes` are left; more than it holds is a programmer's mistake.
  void shrink_to(std::uint64_t bytes);

 private:
  friend class Ledger;
  Lease(Ledger* ledger, std::uint64_t bytes) : ledger_(ledger), bytes_(bytes) {}
  Ledger* ledger_ = nullptr;
  std::uint64_t bytes_ = 0;
};

// Thread-safe. First come, first served: a later small request never overtakes an earlier large one.
class Ledger {
 public:
  explicit Ledger(std::uint64_t cap);
  ~Ledger();
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  [[nodiscard]] std::uint64_t cap() const;
  [[nodiscard]] std::uint64_t used() const;
  [[nodiscard]] std::uint64_t peak() const;

  // Waits until the bytes are free; nothing when stop() was called. Throws when bytes > cap.
  [[nodiscard]] std::optional<Lease> acquire(std::uint64_t bytes);
  [[nodiscard]] std::optional<Lease> try_acquire(std::uint64_t bytes);
  void stop();

 private:
  friend class Lease;
  void give_back(std::uint64_t bytes) noexcept;

  mutable std::mutex mutex_;
  std::condition_variable freed_;
  std::uint64_t cap_;
  std::uint64_t used_ = 0;
  std::uint64_t peak_ = 0;
  std::uint64_t next_ticket_ = 0;
  std::uint64_t serving_ = 0;
  bool stopped_ = false;
};

// What the live line and the logs show: bytes by account, written by whoever knows them, read by anyone.
class Accounts {
 public:
  void set(Account account, std::uint64_t bytes);
  [[nodiscard]] std::uint64_t get(Account account) const;
  [[nodiscard]] std::array<std::uint64_t, static_cast<int>(Account::count_)> all() const;

 private:
  mutable std::mutex mutex_;
  std::array<std::uint64_t, static_cast<int>(Account::count_)> bytes_{};
};

}  // namespace sluice
