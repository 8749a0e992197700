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
    : ledger_(std::exchange(other.ledger_, nullptr)), id_(std::exchange(other.id_, 0)), bytes_(std::exchange(other.bytes_, 0)) {}

Lease& Lease::operator=(Lease&& other) noexcept {
  if (this == &other) return *this;
  Lease ended(std::move(*this));
  ledger_ = std::exchange(other.ledger_, nullptr);
  id_ = std::exchange(other.id_, 0);
  bytes_ = std::exchange(other.bytes_, 0);
  return *this;
}

Lease::~Lease() {
  if (ledger_) ledger_->change(id_, bytes_, 0);
}

void Lease::shrink_to(std::uint64_t bytes) {
  invariant(bytes <= bytes_, "a lease was asked to grow");
  if (bytes == bytes_) return;
  const auto before = std::exchange(bytes_, bytes);
  ledger_->change(id_, before, bytes);
  if (bytes == 0) ledger_ = nullptr;
}

Ledger::Ledger(std::uint64_t cap) : cap_(cap) {}

Ledger::~Ledger() { invariant(live_.empty() && used_ == 0, "a ledger ended before its leases"); }

std::uint64_t Ledger::used() const {
  const std::lock_guard lock(mutex_);
  return used_;
}

std::uint64_t Ledger::peak() const {
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
  used_ += bytes;
  peak_ = std::max(peak_, used_);
  invariant(used_ <= cap_, "the ledger's leases exceed its cap");
  return bytes > 0 ? Lease(this, id, bytes) : Lease();
}

std::optional<Lease> Ledger::acquire(std::uint64_t bytes, const std::stop_token& token) {
  check_size(bytes);
  std::unique_lock lock(mutex_);
  const auto ticket = next_ticket_++;
  waiting_.push_back(ticket);
  changed_.wait(lock, token, [&] { return stopped_ || (waiting_.front() == ticket && bytes <= cap_ - used_); });
  const bool granted = !stopped_ && !token.stop_requested() && waiting_.front() == ticket && bytes <= cap_ - used_;
  waiting_.erase(std::find(waiting_.begin(), waiting_.end(), ticket));
  if (!waiting_.empty()) changed_.notify_all();  // the next one in the queue may fit as well
  if (!granted) return std::nullopt;
  return grant(bytes);
}

std::optional<Lease> Ledger::try_acquire(std::uint64_t bytes) {
  check_size(bytes);
  const std::lock_guard lock(mutex_);
  if (stopped_ || !waiting_.empty() || bytes > cap_ - used_) return std::nullopt;
  return grant(bytes);
}

void Ledger::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
}

void Ledger::change(std::uint64_t id, std::uint64_t from, std::uint64_t to) noexcept {
  bool somebody_waits = false;
  {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(id);
    invariant(found != live_.end(), "a lease was given back twice");
    invariant(found->second == from && to <= from && from - to <= used_, "a lease and its ledger disagree about its bytes");
    used_ -= from - to;
    if (to == 0) live_.erase(found);
    else found->second = to;
    somebody_waits = !waiting_.empty();
  }
  if (somebody_waits) changed_.notify_all();
}

void Accounts::set(Account account, std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  bytes_[static_cast<std::size_t>(account)] = bytes;
}

std::uint64_t Accounts::get(Account account) const {
  const std::lock_guard lock(mutex_);
  return bytes_[static_cast<std::size_t>(account)];
}

std::array<std::uint64_t, static_cast<int>(Account::count_)> Accounts::all() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

}  // namespace sluice
