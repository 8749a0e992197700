// One header of 64 bytes before every block; large blocks are mappings, small ones come from malloc.
#include "framework/train/capped_allocator.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include "framework/base/bytes.hpp"

namespace sluice {
namespace {

constexpr std::uint64_t header_bytes = 64;
constexpr std::uint64_t page = KeptBlocks::page;
// Below, malloc's own reuse is cheaper than a page's worth of waste.
constexpr std::uint64_t mapped_from = 64 * KiB;
// What malloc keeps beside a block of ours.
constexpr std::uint64_t malloc_overhead = 16;

}  // namespace

// In front of the data.
struct CappedAllocator::Header {
  std::uint64_t total;  // as counted
  bool mapped;
  Account account;
  const char* place;      // interned
  Header *newer, *older;  // of the mapped blocks that live
};

CappedAllocator& CappedAllocator::instance() {
  static_assert(sizeof(Header) <= header_bytes);
  // Immortal: tensors in statics are freed after everything else.
  static CappedAllocator& allocator = *std::make_unique<CappedAllocator>(Key{}).release();
  return allocator;
}

CappedAllocator& CappedAllocator::install() {
  c10::SetCPUAllocator(&instance(), 255);
  return instance();
}

Account& CappedAllocator::current_account() {
  thread_local Account account = Account::activations;
  return account;
}

const char*& CappedAllocator::current_place() {
  thread_local const char* place = "";
  return place;
}

const char* CappedAllocator::interned(std::string_view place) {
  const std::lock_guard lock(mutex_);
  const auto known = places_.find(place);
  return (known != places_.end() ? known : places_.emplace(place).first)->c_str();
}

PlaceScope::PlaceScope(std::string_view place) : before_(CappedAllocator::current_place()) {
  CappedAllocator::current_place() = CappedAllocator::instance().interned(place);
}
PlaceScope::~PlaceScope() { CappedAllocator::current_place() = before_; }

AccountScope::AccountScope(Account account) : before_(CappedAllocator::current_account()) { CappedAllocator::current_account() = account; }
AccountScope::~AccountScope() { CappedAllocator::current_account() = before_; }

void CappedAllocator::set_cap(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  counters_.cap = bytes;
  if (bytes != 0) keep_within_limit();
}

void CappedAllocator::keep_beyond_peak(bool may) {
  const std::lock_guard lock(mutex_);
  beyond_peak_ = may;
  keep_within_limit();
}

CappedAllocator::Counters CappedAllocator::counters() const {
  const std::lock_guard lock(mutex_);
  Counters now = counters_;
  now.kept = kept_.bytes();
  return now;
}

void CappedAllocator::reset_peak() {
  const std::lock_guard lock(mutex_);
  counters_.peak = counters_.live;
  counters_.footprint = counters_.live + kept_.bytes();
}

void CappedAllocator::trim() {
  const std::lock_guard lock(mutex_);
  kept_.drop_until(0);
  high_ = counters_.live;
}

bool CappedAllocator::retag(const c10::DataPtr& block, Account account) {
  if (block.get() == nullptr || block.get_deleter() != &release) return false;
  auto* header = reinterpret_cast<Header*>(static_cast<std::uint8_t*>(block.get_context()) - header_bytes);
  const std::lock_guard lock(mutex_);
  counters_.by_account[static_cast<std::size_t>(header->account)] -= header->total;
  counters_.by_account[static_cast<std::size_t>(account)] += header->total;
  header->account = account;
  return true;
}

void CappedAllocator::fail_at(std::uint64_t n) {
  const std::lock_guard lock(mutex_);
  fail_in_ = n;
}

CappedAllocator::Refusal CappedAllocator::last_refusal() const {
  const std::lock_guard lock(mutex_);
  return last_refusal_;
}

CappedAllocator::Refusal CappedAllocator::refusal_of(std::uint64_t bytes, bool at_cap) const {
  Refusal refusal{bytes, current_place(), at_cap, counters_, {}, {}};
  refusal.counters.kept = kept_.bytes();
  std::map<std::pair<Account, const char*>, Held> by_place;
  std::vector<Held> blocks;
  for (const Header* header = mapped_; header; header = header->older) {
    auto& held = by_place.try_emplace({header->account, header->place}, Held{0, 0, header->account, header->place}).first->second;
    held.bytes += header->total;
    ++held.blocks;
    blocks.push_back({header->total, 1, header->account, header->place});
  }
  for (auto& [key, held] : by_place) refusal.by_place.push_back(std::move(held));
  const auto larger = [](const Held& a, const Held& b) { return a.bytes > b.bytes; };
  std::stable_sort(refusal.by_place.begin(), refusal.by_place.end(), larger);
  std::stable_sort(blocks.begin(), blocks.end(), larger);
  blocks.resize(std::min<std::size_t>(blocks.size(), 5));
  refusal.largest = std::move(blocks);
  return refusal;
}

void CappedAllocator::enlist(Header* header) noexcept {
  header->newer = nullptr;
  header->older = mapped_;
  if (mapped_) mapped_->newer = header;
  mapped_ = header;
}

void CappedAllocator::delist(Header* header) noexcept {
  (header->newer ? header->newer->older : mapped_) = header->older;
  if (header->older) header->older->newer = header->newer;
}

void CappedAllocator::refuse(std::uint64_t bytes, bool at_cap) {
  last_refusal_ = refusal_of(bytes, at_cap);
  std::string accounts;
  for (int i = 0; i < static_cast<int>(Account::count_); ++i)
    if (const auto held = counters_.by_account[static_cast<std::size_t>(i)]; held != 0)
      accounts += (accounts.empty() ? "" : ", ") + std::string(name_of(static_cast<Account>(i))) + " " + format_bytes(held);
  TORCH_CHECK_WITH(OutOfMemoryError, false, "tensors need ", format_bytes(bytes), " more than the ", format_bytes(counters_.live), " they hold (",
                   accounts, "); ", at_cap ? "their share of host_ram is " + format_bytes(counters_.cap) : std::string("the system has no more"));
  std::abort();  // the check above throws
}

// Kept ranges are too small for the next large block now and then. With this much more they seldom are: docs/decisions/0008-kept-pages.md.
std::uint64_t CappedAllocator::reuse_above(std::uint64_t peak) noexcept { return std::min(peak / 8, 32 * MiB); }

std::uint64_t CappedAllocator::footprint_limit() const noexcept { return counters_.cap == 0 || !beyond_peak_ ? high_ : std::min(high_ + reuse_above(high_), counters_.cap); }

void CappedAllocator::keep_within_limit() noexcept { kept_.drop_until(footprint_limit() - std::min(footprint_limit(), counters_.live)); }

// In what live and kept bytes may have together.
void CappedAllocator::make_room(std::uint64_t total) noexcept { kept_.drop_until(std::max(footprint_limit(), counters_.live + total) - counters_.live - total); }

void* CappedAllocator::map_or_reuse(std::uint64_t total) {
  if (void* block = kept_.take(total)) {
    ++counters_.reused;
    return block;
  }
  make_room(total);
  void* block = mmap(nullptr, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return block == MAP_FAILED ? nullptr : block;
}

c10::DataPtr CappedAllocator::allocate(std::size_t bytes) {
  const c10::Device cpu(c10::DeviceType::CPU);
  if (bytes == 0) return {nullptr, nullptr, &release, cpu};
  const bool mapped = bytes >= mapped_from;
  const std::lock_guard lock(mutex_);
  ++counters_.allocations;
  const bool planted = fail_in_ != 0 && --fail_in_ == 0;
  if (planted || bytes > (std::uint64_t{1} << 62)) refuse(bytes, true);
  const std::uint64_t total = mapped ? (bytes + header_bytes + page - 1) / page * page : bytes + header_bytes + malloc_overhead;
  if (counters_.cap != 0 && counters_.live + total > counters_.cap) refuse(bytes, true);
  Header* header = nullptr;
  if (mapped) {
    header = static_cast<Header*>(map_or_reuse(total));
  } else {
    make_room(total);
    void* block = nullptr;
    if (posix_memalign(&block, header_bytes, bytes + header_bytes) == 0) header = static_cast<Header*>(block);
  }
  if (header == nullptr) refuse(bytes, false);
  const Account account = current_account();
  *header = {total, mapped, account, current_place(), nullptr, nullptr};
  if (mapped) enlist(header);
  counters_.live += total;
  counters_.by_account[static_cast<std::size_t>(account)] += total;
  counters_.peak = std::max(counters_.peak, counters_.live);
  counters_.footprint = std::max(counters_.footprint, counters_.live + kept_.bytes());
  high_ = std::max(high_, counters_.live);
  void* data = reinterpret_cast<std::uint8_t*>(header) + header_bytes;
  return {data, data, &release, cpu};
}

void CappedAllocator::release(void* data) {
  if (data == nullptr) return;
  auto* header = reinterpret_cast<Header*>(static_cast<std::uint8_t*>(data) - header_bytes);
  CappedAllocator& allocator = instance();
  const std::lock_guard lock(allocator.mutex_);
  allocator.counters_.live -= header->total;
  allocator.counters_.by_account[static_cast<std::size_t>(header->account)] -= header->total;
  if (!header->mapped) {
    std::free(header);
    return;
  }
  allocator.delist(header);
  allocator.kept_.add(header, header->total);
  allocator.keep_within_limit();
}

c10::DeleterFnPtr CappedAllocator::raw_deleter() const { return &release; }

void CappedAllocator::copy_data(void* to, const void* from, std::size_t bytes) const { default_copy_data(to, from, bytes); }

}  // namespace sluice
