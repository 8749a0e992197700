// What is tried here is undone: gradients, statistics and the cap are as before.
#include "framework/train/out_of_memory.hpp"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "framework/base/bytes.hpp"
#include "framework/base/strings.hpp"
#include "framework/memory/machine.hpp"
#include "framework/memory/process.hpp"

namespace sluice {
namespace {

constexpr std::size_t most_places = 6;

std::string text_of(const CappedAllocator::Held& held) {
  const bool outside = held.place.empty();
  return fmt::format("{} {}{}{}", format_bytes(held.bytes), name_of(held.account), outside ? "" : " of ", held.place);
}

std::string by_account(const CappedAllocator::Counters& counters) {
  std::vector<std::string> parts;
  for (int i = 0; i < static_cast<int>(Account::count_); ++i)
    if (const auto bytes = counters.by_account[static_cast<std::size_t>(i)]; bytes != 0) parts.push_back(fmt::format("{} {}", name_of(static_cast<Account>(i)), format_bytes(bytes)));
  return join(parts, ", ");
}

std::string by_place(const std::vector<CappedAllocator::Held>& held) {
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < std::min(held.size(), most_places); ++i) parts.push_back(fmt::format("{} in {}", text_of(held[i]), counted(static_cast<std::uint64_t>(held[i].blocks), "block")));
  std::uint64_t rest = 0;
  for (std::size_t i = most_places; i < held.size(); ++i) rest += held[i].bytes;
  if (rest > 0) parts.push_back("elsewhere " + format_bytes(rest));
  return join(parts, ", ");
}

// The cap that is lifted for a trial comes back, however it ends.
class OtherCap {
 public:
  explicit OtherCap(std::uint64_t bytes) : before_(CappedAllocator::install().counters().cap) { CappedAllocator::install().set_cap(bytes); }
  ~OtherCap() { CappedAllocator::install().set_cap(before_); }
  OtherCap(const OtherCap&) = delete;
  OtherCap& operator=(const OtherCap&) = delete;

 private:
  std::uint64_t before_;
};

}  // namespace

std::string report_of(const CappedAllocator::Refusal& refusal) {
  const auto& now = refusal.counters;
  std::string text = fmt::format("\n  requested  {}{}", format_bytes(refusal.requested), refusal.place.empty() ? "" : " in " + refusal.place);
  text += fmt::format("\n  allocated  {}: {}", format_bytes(now.live), by_account(now));
  text += fmt::format("\n  reserved   {} kept for reuse; {}", format_bytes(now.kept), !refusal.at_cap ? "the system has no more" : now.cap == 0 ? "no cap" : "the tensors' share of host_ram is " + format_bytes(now.cap));
  if (!refusal.by_place.empty()) text += "\n  by place   " + by_place(refusal.by_place);
  if (!refusal.largest.empty()) {
    std::vector<std::string> blocks;
    for (const auto& block : refusal.largest) blocks.push_back(text_of(block));
    text += "\n  largest    " + join(blocks, ", ");
  }
  text += fmt::format("\n  process    {} resident; {} are free to it", format_bytes(resident_bytes()), format_bytes(free_memory()));
  std::vector<std::string> others;
  for (const auto& process : largest_processes(3)) others.push_back(fmt::format("{} ({}) {}", in_quotes(process.name), process.pid, format_bytes(process.resident)));
  if (!others.empty()) text += "\n  others     " + join(others, ", ");
  return text + "\n";
}

std::string hint_of(const std::vector<Change>& changes) {
  std::vector<std::string> parts;
  for (const auto& change : changes) parts.push_back(fmt::format("{} = {} ({})", change.key, change.value, change.effect));
  return parts.empty() ? "" : "write " + join(parts, "; or ");
}

bool says_out_of_memory(const std::exception& error) {
  constexpr std::int32_t memory_allocation = 2;  // cudaErrorMemoryAllocation
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error)) return false;  // it is one
  if (const auto* numbered = dynamic_cast<const c10::AcceleratorError*>(&error)) return numbered->get_error_code() == memory_allocation;
  const auto* own = dynamic_cast<const c10::Error*>(&error);
  if (!own) return false;
  const std::string_view text = own->what_without_backtrace();
  return text.find("STATUS_ALLOC_FAILED") != std::string_view::npos || text.find("CUDA error: out of memory") != std::string_view::npos;
}

void throw_as_out_of_memory(const std::exception& error) {
  const auto* own = dynamic_cast<const c10::Error*>(&error);
  const std::string_view text = own ? own->what_without_backtrace() : error.what();
  TORCH_CHECK_WITH(OutOfMemoryError, false, std::string(text.substr(0, text.find('\n'))));
  std::abort();  // the check above throws
}

bool fits(const std::function<void()>& work) {
  CappedAllocator::install().trim();
  try {
    telling_out_of_memory(work);
    return true;
  } catch (const c10::OutOfMemoryError&) {
    return false;
  }
}

std::optional<std::uint64_t> peak_of(const std::function<void()>& work) {
  auto& allocator = CappedAllocator::install();
  allocator.trim();
  const auto live = allocator.counters().live;
  const OtherCap cap(live + free_memory() / 2);
  allocator.reset_peak();
  if (!fits(work)) return std::nullopt;
  return allocator.counters().peak - live;
}

}  // namespace sluice
