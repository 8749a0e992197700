// Composes the live line from pieces, dropping what matters least until it fits.
#include "framework/report/live.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "framework/base/bytes.hpp"
#include "framework/base/clock.hpp"
#include "framework/report/console.hpp"

namespace sluice {
namespace {

constexpr int all_of_it = std::numeric_limits<int>::max();

std::string rate_text(double clips_per_second) {
  const int decimals = clips_per_second >= 100 ? 0 : clips_per_second >= 1 ? 1 : 2;
  return fmt::format("{:.{}f} clips/s", clips_per_second, decimals);
}

// The memory in use and its `count` largest accounts.
std::string memory_text(const LiveState& state, int count) {
  const auto used = std::accumulate(state.accounts.begin(), state.accounts.end(), std::uint64_t{0});
  std::string text = state.budget > 0 ? fmt::format("{} of {}", format_bytes(used), format_bytes(state.budget)) : format_bytes(used);
  std::vector<std::pair<std::uint64_t, int>> largest;
  for (int i = 0; i < static_cast<int>(state.accounts.size()); ++i)
    if (state.accounts[static_cast<std::size_t>(i)] > 0) largest.emplace_back(state.accounts[static_cast<std::size_t>(i)], -i);
  std::sort(largest.rbegin(), largest.rend());
  count = std::min(count, static_cast<int>(largest.size()));
  for (int i = 0; i < count; ++i) {
    const auto [bytes, account] = largest[static_cast<std::size_t>(i)];
    text += fmt::format("{}{} {}", i == 0 ? " (" : ", ", name_of(static_cast<Account>(-account)), format_bytes(bytes));
  }
  return count > 0 ? text + ")" : text;
}

// What is shown beside step and loss, from the least to all of it: the richest that fits is taken.
struct Pieces {
  bool left, rate, memory, waiting, epoch, queue;
  int accounts;
};
constexpr std::array<Pieces, 11> choices{{{false, false, false, false, false, false, 0},
                                          {true, false, false, false, false, false, 0},
                                          {true, true, false, false, false, false, 0},
                                          {true, true, true, false, false, false, 0},
                                          {true, true, true, true, false, false, 0},
                                          {true, true, true, true, true, false, 0},
                                          {true, true, true, true, true, false, 1},
                                          {true, true, true, true, true, false, 2},
                                          {true, true, true, true, true, true, 2},
                                          {true, true, true, true, true, true, 4},
                                          {true, true, true, true, true, true, all_of_it}}};

std::string compose(const LiveState& state, const Pieces& shown) {
  std::vector<std::string> pieces;
  pieces.push_back(state.total_steps > 0 ? fmt::format("step {}/{}", state.step, state.total_steps) : fmt::format("step {}", state.step));
  if (shown.epoch && state.epochs > 0) pieces.push_back(fmt::format("epoch {}/{}", std::min(state.epoch + 1, state.epochs), state.epochs));
  if (state.loss) pieces.push_back(fmt::format("loss {:.4g}", *state.loss));
  if (!state.trouble.empty()) pieces.push_back(state.trouble);
  if (shown.rate && state.clips_per_second > 0) {
    auto text = rate_text(state.clips_per_second);
    if (state.waiting_share >= 0.005) text += fmt::format(" ({:.0f} % waiting for data)", state.waiting_share * 100);
    pieces.push_back(std::move(text));
  }
  if (shown.left && !state.doing.empty()) pieces.push_back(state.doing);
  else if (shown.left && state.seconds_left >= 0) pieces.push_back(fmt::format("{} left", format_duration(state.seconds_left)));
  if (shown.memory) pieces.push_back(memory_text(state, shown.accounts));
  if (shown.queue && state.in_flight_limit > 0) {
    auto text = fmt::format("in flight {}/{}", state.in_flight, state.in_flight_limit);
    if (state.lease_cap > 0) text += fmt::format(", {} of {}", format_bytes(state.leased), format_bytes(state.lease_cap));
    pieces.push_back(std::move(text));
  }
  if (shown.waiting && state.doing.empty() && !state.waiting_for.empty()) pieces.push_back("waits for " + state.waiting_for);
  return printable(fmt::format("{}", fmt::join(pieces, "  ")));
}

}  // namespace

std::string live_text(const LiveState& state, int width) {
  for (auto shown = choices.rbegin(); shown != choices.rend(); ++shown) {
    auto text = compose(state, *shown);
    if (columns_of(text) <= width) return text;
  }
  return fitted(compose(state, choices.front()), width);
}

std::string plain_text(const LiveState& state) { return compose(state, {true, true, true, true, true, false, 0}); }

std::string progress_text(const std::string& what, double fraction, int width) {
  const auto share = fmt::format(" {:.0f} %", std::floor(std::clamp(std::isnan(fraction) ? 0.0 : fraction, 0.0, 1.0) * 100));
  return fitted(printable(what), std::max(0, width - static_cast<int>(share.size()))) + share;
}

void Pace::step(std::int64_t clips, double seconds) {
  seconds_[static_cast<std::size_t>(next_)] = seconds;
  clips_[static_cast<std::size_t>(next_)] = clips;
  next_ = (next_ + 1) % window;
  count_ = std::min(count_ + 1, window);
}

double Pace::seconds_per_step() const {
  return count_ == 0 ? 0 : std::accumulate(seconds_.begin(), seconds_.begin() + count_, 0.0) / count_;
}

double Pace::clips_per_second() const {
  const double seconds = std::accumulate(seconds_.begin(), seconds_.begin() + count_, 0.0);
  return seconds > 0 ? static_cast<double>(std::accumulate(clips_.begin(), clips_.begin() + count_, std::int64_t{0})) / seconds : 0;
}

}  // namespace sluice
