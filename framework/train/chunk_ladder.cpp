// Down by halves, up in one step: what the plan measured is known to fit where that much room is.
#include "framework/train/chunk_ladder.hpp"

#include <algorithm>

namespace sluice {
namespace {

// Frames. Below it the halo is most of what is computed.
constexpr std::int64_t least_chunk = 4;

}  // namespace

std::optional<std::int64_t> ChunkLadder::below(std::int64_t place) const {
  if (tried_at_ != place) return now_;
  if (options_.pinned) return std::nullopt;
  const auto frames = now_ / 2 / options_.stride * options_.stride;
  return frames < std::max(options_.stride, least_chunk) ? std::nullopt : std::optional(frames);
}

void ChunkLadder::failed(std::int64_t place, std::int64_t frames) {
  tried_at_ = place;
  const bool same = frames == now_;
  if (same && !reduced()) return;  // it may last yet
  if (!same && !reduced() && clean_ < patience_) patience_ *= 2;  // what was taken back did not last
  now_ = frames;
  clean_ = 0;
}

void ChunkLadder::step_went_well() { clean_ = std::min(clean_ + 1, patience_); }

std::optional<std::int64_t> ChunkLadder::above(std::uint64_t room) const {
  return reduced() && clean_ >= patience_ && room >= options_.needs ? std::optional(options_.planned) : std::nullopt;
}

void ChunkLadder::climbed() {
  now_ = options_.planned;
  clean_ = 0;
}

std::optional<LadderState> ChunkLadder::state() const {
  if (!reduced() && clean_ == patience_ && patience_ == options_.clean_steps) return std::nullopt;
  LadderState state;
  state.microbatch = 1;
  state.chunk = now_;
  state.clean = clean_;
  state.patience = patience_;
  return state;
}

bool ChunkLadder::restore(const LadderState& state) {
  if (options_.pinned || state.chunk < 1 || state.chunk > options_.planned || state.chunk % options_.stride != 0) return false;
  now_ = state.chunk;
  patience_ = std::max(state.patience, options_.clean_steps);
  clean_ = std::clamp<std::int64_t>(state.clean, 0, patience_);
  return true;
}

}  // namespace sluice
