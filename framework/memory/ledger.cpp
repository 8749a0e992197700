// Leases: taken in the order of asking, given back once.
#include "framework/memory/ledger.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/base/bytes.hpp"
#include "framework/memory/invariant.hpp"

namespace sluice {

std::string_view name_of(Account account) {
  switch (account) {
    case Account::base: return "base";
    case Account::runtime: return "runtime";
    case Account::decoders: return "decoders";
    case Account::samples: return "samples";
    case Account::batches: return "batches";
    case Account::parameters: return "parameters";
    case Account::gradients: return "gradients";
    case Account::optimizer: return "optimizer";
    case Account::activations: return "activations";
    case Account::offload: return "offload";
    case Account::checkpoint: return "checkpoint";
    case Account::reserve: return "reserve";
    case Account::count_: break;
  }
  return "unknown";
}

Lease::Lease(Lease&& other) noexcept
    : ledger_(std::exchange(other.ledger_, nullptr)), id_(std::exchange(other.id_, 0)), bytes_(std::exchange(other.bytes_, 0)),
      decoders_(std::exchange(other.decoders_, 0)), batches_(std::exchange(other.batches_, 0)) {}

Lease& Lease::operator=(Lease&& other) noexcept {
  if (this == &other) return *this;
  Lease ended(std::move(*this));
  ledger_ = std::exchange(other.ledger_, nullptr);
  id_ = std::exchange(other.id_, 0);
  bytes_ = std::exchange(other.bytes_, 0);
  decoders_ = std::exchange(other.decoders_, 0);
  batches_ = std::exchange(other.batches_, 0);
  return *this;
}

Lease::~Lease() {
  if (ledger_) ledger_->change(id_, split(), {});
}

void Lease::shrink_to(std::uint64_t bytes) {
  invariant(bytes <= bytes_, "a lease was asked to grow");
  if (bytes == bytes_) return;
  const auto before = split();
  bytes_ = bytes;
  decoders_ = std::min(decoders_, bytes);
  batches_ = std::min(batches_, bytes - decoders_);
  ledger_->change(id_, before, split());
  if (bytes == 0) ledger_ = nullptr;
}

void Lease::count_as(Account account, std::uint64_t bytes) {
  invariant(account == Account::decoders || account == Account::batches, "a lease is counted to decoders or batches; the rest is the samples'");
  auto& part = account == Account::decoders ? decoders_ : batches_;
  invariant(bytes <= bytes_ - (decoders_ + batches_ - part), "more of a lease was counted to an account than it holds");
  if (bytes == part) return;
  const auto before = split();
  part = bytes;
  ledger_->change(id_, before, split());
}

std::uint64_t Lease::counted_as(Account account) const { return account == Account::decoders ? decoders_ : account == Account::batches ? batches_ : account == Account::samples ? split().samples : 0; }

Ledger::Ledger(std::uint64_t cap) : cap_(cap) {}

Ledger::~Ledger() { invariant(live_.empty() && used_.total() == 0, "a ledger ended before its leases"); }

std::uint64_t Ledger::used() const { return split().total(); }
std::uint64_t Ledger::peak() const { return split_at_peak().total(); }

SampleBytes Ledger::split() const {
  const std::lock_guard lock(mutex_);
  return used_;
}

SampleBytes Ledger::split_at_peak() const {
  const std::lock_guard lock(mutex_);
  return peak_;
}

std::size_t Ledger::leases() const {
  const std::lock_guard lock(mutex_);
  return live_.size();
}

void Ledger::check_size(std::uint64_t bytes) const {
  if (bytes > cap_)
    throw Error(Code::data, fmt::format("{} are asked for where the samples' share is {}", format_bytes(bytes), format_bytes(cap_)));
}

Lease Ledger::grant(std::uint64_t bytes) {
  const auto id = next_id_++;
  if (bytes > 0) live_.emplace(id, bytes);
  used_.samples += bytes;
  if (used_.total() > peak_.total()) peak_ = used_;
  invariant(used_.total() <= cap_, "the ledger's leases exceed its cap");
  return bytes > 0 ? Lease(this, id, bytes) : Lease();
}

std::optional<Lease> Ledger::acquire(std::uint64_t bytes, const std::stop_token& token) {
  check_size(bytes);
  std::unique_lock lock(mutex_);
  const auto ticket = next_ticket_++;
  waiting_.push_back(ticket);
  changed_.wait(lock, token, [&] { return stopped_ || (waiting_.front() == ticket && bytes <= cap_ - used_.total()); });
  const bool granted = !stopped_ && !token.stop_requested() && waiting_.front() == ticket && bytes <= cap_ - used_.total();
  waiting_.erase(std::find(waiting_.begin(), waiting_.end(), ticket));
  if (!waiting_.empty()) changed_.notify_all();  // the next one in the queue may fit as well
  if (!granted) return std::nullopt;
  return grant(bytes);
}

std::optional<Lease> Ledger::try_acquire(std::uint64_t bytes) {
  check_size(bytes);
  const std::lock_guard lock(mutex_);
  if (stopped_ || !waiting_.empty() || bytes > cap_ - used_.total()) return std::nullopt;
  return grant(bytes);
}

void Ledger::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
}

void Ledger::change(std::uint64_t id, const SampleBytes& from, const SampleBytes& to) noexcept {
  bool somebody_waits = false;
  {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(id);
    invariant(found != live_.end(), "a lease was given back twice");
    invariant(found->second == from.total() && to.total() <= from.total() && from.decoders <= used_.decoders && from.samples <= used_.samples && from.batches <= used_.batches,
              "a lease and its ledger disagree about its bytes");
    used_ = {used_.decoders - from.decoders + to.decoders, used_.samples - from.samples + to.samples, used_.batches - from.batches + to.batches};
    if (to.total() == 0) live_.erase(found);
    else found->second = to.total();
    somebody_waits = !waiting_.empty() && to.total() < from.total();
  }
  if (somebody_waits) changed_.notify_all();
}

}  // namespace sluice
