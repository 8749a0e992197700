// The sentences are those of LibTorch's CUDACachingAllocator.cpp; one that is not there leaves its figure to the counters.
#include "framework/train/card_report.hpp"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/base/bytes.hpp"
#include "framework/base/strings.hpp"
#include "framework/memory/machine.hpp"

namespace sluice {
namespace {

constexpr std::size_t most_others = 3;

// "20.00 MiB", "512 bytes"
std::optional<std::uint64_t> size_at(std::string_view text) {
  const auto number = text.find_first_not_of("0123456789."), unit = text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", number == std::string_view::npos ? number : number + 1);
  if (number == 0 || number == std::string_view::npos) return std::nullopt;
  const bool bytes = text.substr(number).starts_with(" bytes");
  try {
    return parse_bytes(text.substr(0, bytes ? number : unit));
  } catch (const Error&) {
    return std::nullopt;
  }
}
std::optional<std::uint64_t> size_after(std::string_view text, std::string_view words) {
  const auto at = text.find(words);
  return at == std::string_view::npos ? std::nullopt : size_at(text.substr(at + words.size()));
}

struct Figures {
  std::optional<std::uint64_t> requested, total, free, process, allocated, unallocated;
  explicit Figures(std::string_view words)
      : requested(size_after(words, "Tried to allocate ")), total(size_after(words, "total capacity of ")), free(size_after(words, "of which ")), process(size_after(words, "this process has ")),
        allocated(size_after(words, "Of the allocated memory ")) {
    const auto end = words.find(" is reserved by PyTorch but unallocated");
    const auto begin = end == std::string_view::npos ? end : words.rfind("and ", end);
    if (begin != std::string_view::npos) unallocated = size_at(words.substr(begin + 4));
  }
};

// Who is not named holds what is neither free nor ours.
std::string others_text(const CardRefusal& refusal, const Figures& figures) {
  std::vector<std::string> parts;
  std::uint64_t named = 0;
  for (const auto& other : refusal.others) {
    named += other.bytes;
    if (parts.size() < most_others)
      parts.push_back(fmt::format("{} ({}){}", other.name.empty() ? "process" : in_quotes(other.name), other.pid, other.bytes == 0 ? "" : " " + format_bytes(other.bytes)));
  }
  if (refusal.others.size() > most_others) parts.push_back(fmt::format("{} more", refusal.others.size() - most_others));
  if (figures.total && figures.free && figures.process) {
    const std::uint64_t known = *figures.free + *figures.process + named, unnamed = *figures.total - std::min(*figures.total, known);
    if (unnamed > *figures.total / 64) parts.push_back(fmt::format("{} that the driver does not name", format_bytes(unnamed)));
  }
  return parts.empty() ? "none" : join(parts, ", ");
}

}  // namespace

CardRefusal card_refusal(const c10::OutOfMemoryError& error, at::Device device) {
  CardRefusal refusal;
  refusal.words = error.what_without_backtrace();
  refusal.tensors = TensorMemory(device).counters();
  refusal.card = card_memory(device);
  for (const auto& user : others_on(device)) refusal.others.push_back({user.pid, process_name(user.pid), user.bytes});
  std::stable_sort(refusal.others.begin(), refusal.others.end(), [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
  return refusal;
}

std::string report_of(const CardRefusal& refusal) {
  const Figures figures(refusal.words);
  const auto& planned = refusal.planned;
  const auto& now = refusal.tensors;
  std::string text = fmt::format("\n  requested  {}", figures.requested ? format_bytes(*figures.requested) : "more than there was");
  text += fmt::format("\n  allocated  {}; planned: parameters {}, gradients {}, optimizer {}, activations {}", figures.allocated ? format_bytes(*figures.allocated) : "at most " + format_bytes(now.peak),
                      format_bytes(planned.parameters), format_bytes(planned.gradients), format_bytes(planned.optimizer), format_bytes(planned.activations));
  text += fmt::format("\n  reserved   {} kept for reuse; device_memory leaves {} for tensors", format_bytes(figures.unallocated.value_or(now.held - std::min(now.held, now.live))), format_bytes(refusal.given));
  text += fmt::format("\n  free       {} of {}{}", format_bytes(figures.free.value_or(refusal.card.free)), format_bytes(figures.total.value_or(refusal.card.total)),
                      figures.process ? fmt::format("; this process held {}, with what the driver takes for it", format_bytes(*figures.process)) : "");
  text += "\n  others     " + others_text(refusal, figures);
  if (!figures.requested || !figures.allocated) text += "\n  LibTorch   " + refusal.words.substr(0, refusal.words.find('\n'));
  return text + "\n";
}

std::string hint_of(const CardRefusal& refusal) {
  const Figures figures(refusal.words);
  const std::string others = refusal.others.empty() ? "" : "end what else holds the card's memory, or ";
  if (!figures.free || !figures.process) return others + "lower budget.device_memory below what is free: the plan then takes less";
  return fmt::format("{}write budget.device_memory = \"{}MiB\", what there was for this process: the plan then takes no more", others, (*figures.free + *figures.process) / MiB);
}

}  // namespace sluice
