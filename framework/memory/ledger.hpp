// The ledger: every byte of the budget has an account, and leases are the only way to hold bytes of the samples' share.
//
//   Ledger samples(256 * MiB);
//   std::optional<Lease> lease = samples.acquire(12 * MiB);   // waits its turn; nothing after stop()
//   lease->count_as(Account::batches, 2 * MiB);               // of them; what is counted nowhere else is the samples'
//   lease->shrink_to(3 * MiB);                                // and gives the rest back when it is destroyed
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string_view>
#include <unordered_map>

namespace sluice {

enum class Account : int {
  base, runtime, decoders, samples, batches, parameters, gradients, optimizer, activations, offload, checkpoint, reserve, count_
};
std::string_view name_of(Account account);

// What the samples' share is held for.
struct SampleBytes {
  std::uint64_t decoders = 0;  // working memory of decoders that are at work
  std::uint64_t samples = 0;   // on their way: encoded, decoded, augmented
  std::uint64_t batches = 0;   // finished samples, from their place in a batch until its step is done
  [[nodiscard]] std::uint64_t total() const { return decoders + samples + batches; }
  bool operator==(const SampleBytes&) const = default;
};

class Ledger;

// Bytes held from the ledger. Move-only; only shrinks; returns what is left when it is destroyed. The ledger outlives it.
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
  // So many of its bytes are those of decoders, or of batches; the rest are the samples'. Both together are at most bytes(), and shrinking takes from the rest first.
  void count_as(Account account, std::uint64_t bytes);
  [[nodiscard]] std::uint64_t counted_as(Account account) const;

 private:
  friend class Ledger;
  Lease(Ledger* ledger, std::uint64_t id, std::uint64_t bytes) : ledger_(ledger), id_(id), bytes_(bytes) {}
  [[nodiscard]] SampleBytes split() const { return {decoders_, bytes_ - decoders_ - batches_, batches_}; }
  Ledger* ledger_ = nullptr;
  std::uint64_t id_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t decoders_ = 0, batches_ = 0;
};

// Thread-safe. First come, first served: a later small request never overtakes an earlier large one.
// Every lease is known by its number, so that one given back twice ends the process instead of widening the cap in silence.
class Ledger {
 public:
  explicit Ledger(std::uint64_t cap);
  ~Ledger();  // all leases must have ended
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  [[nodiscard]] std::uint64_t cap() const { return cap_; }
  [[nodiscard]] std::uint64_t used() const;
  [[nodiscard]] std::uint64_t peak() const;
  [[nodiscard]] std::size_t leases() const;
  [[nodiscard]] SampleBytes split() const;          // of used()
  [[nodiscard]] SampleBytes split_at_peak() const;  // of peak(), when it was reached

  // Waits until the bytes are free; nothing when stop() or the token asked to end. Throws Code::data when bytes > cap.
  [[nodiscard]] std::optional<Lease> acquire(std::uint64_t bytes) { return acquire(bytes, std::stop_token()); }
  [[nodiscard]] std::optional<Lease> acquire(std::uint64_t bytes, const std::stop_token& token);
  // Never waits: nothing when the bytes are not free or somebody waits already.
  [[nodiscard]] std::optional<Lease> try_acquire(std::uint64_t bytes);
  void stop();  // for good: whoever waits gets nothing

 private:
  friend class Lease;
  void change(std::uint64_t id, const SampleBytes& from, const SampleBytes& to) noexcept;
  Lease grant(std::uint64_t bytes);
  void check_size(std::uint64_t bytes) const;

  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  const std::uint64_t cap_;
  SampleBytes used_, peak_;
  std::uint64_t next_id_ = 1;
  std::uint64_t next_ticket_ = 0;
  std::deque<std::uint64_t> waiting_;  // tickets, oldest first
  std::unordered_map<std::uint64_t, std::uint64_t> live_;  // lease -> bytes
  bool stopped_ = false;
};

}  // namespace sluice
