// Implements number_frames.hpp.
#include "number_frames.hpp"

#include <algorithm>
#include <cmath>

namespace sluice::decode {

namespace {

constexpr std::int64_t none = AV_NOPTS_VALUE;

// How many frames wait, at most, for one that comes later in the file and is shown earlier.
std::int32_t reorder_depth(const VideoIndex& index) {
  std::vector<bool> arrived(index.frames.size(), false);
  std::int64_t next = 0, held = 0, most = 0;
  for (const auto& packet : index.packets) {
    if (packet.frame < 0) continue;
    arrived[static_cast<std::size_t>(packet.frame)] = true;
    ++held;
    for (; next < index.frame_count() && arrived[static_cast<std::size_t>(next)]; ++next) --held;
    most = std::max(most, held);
  }
  return static_cast<std::int32_t>(std::min<std::int64_t>(most, deepest_reorder));
}

void number(VideoIndex& index, const std::vector<std::int32_t>& shown) {
  for (auto& packet : index.packets) packet.frame = -1;
  index.frames = shown;
  for (std::size_t i = 0; i < shown.size(); ++i) index.packets[static_cast<std::size_t>(shown[i])].frame = static_cast<std::int32_t>(i);
  index.reorder = reorder_depth(index);
}

bool constant_at(const VideoIndex& index, double rate) {
  if (!(rate > 0) || !std::isfinite(rate)) return false;
  // A time is rounded to a tick, and so are the two ends that the rate may have been taken from.
  const double tolerance = 1.5 * index.tick + 1e-6;
  for (std::int64_t k = 0; k < index.frame_count(); ++k)
    if (std::abs(index.seconds(k) - static_cast<double>(k) / rate) > tolerance) return false;
  return true;
}

}  // namespace

bool stamps_tell_order(const VideoIndex& index, const std::vector<Stamp>& stamps) {
  if (index.parameters->codec_id == AV_CODEC_ID_VP8) return false;  // packets that show nothing have times as well
  if (!index.packets.front().key) return false;
  std::vector<std::int64_t> times;
  for (const auto& stamp : stamps) {
    if (stamp.shown == none) return false;
    // Stored after the first key frame and shown before it: whether it can be decoded only a decoder can tell.
    if (stamp.shown < stamps.front().shown && !stamp.hidden) return false;
    if (!stamp.hidden) times.push_back(stamp.shown);
  }
  std::sort(times.begin(), times.end());
  return !times.empty() && std::adjacent_find(times.begin(), times.end()) == times.end();
}

void number_by_stamps(VideoIndex& index, const std::vector<Stamp>& stamps) {
  std::vector<std::int32_t> shown;
  for (std::size_t i = 0; i < stamps.size(); ++i) {
    index.packets[i].time = stamps[i].shown;
    if (!stamps[i].hidden) shown.push_back(static_cast<std::int32_t>(i));
  }
  std::sort(shown.begin(), shown.end(), [&](std::int32_t a, std::int32_t b) {
    return stamps[static_cast<std::size_t>(a)].shown < stamps[static_cast<std::size_t>(b)].shown;
  });
  number(index, shown);
}

void number_as_shown(VideoIndex& index, const std::vector<Stamp>& stamps, const std::vector<std::int32_t>& shown, const RateGuess& guess) {
  number(index, shown);
  // The stamps of the packets that show something, put in order, are the times of the frames up to a constant: each
  // packet's own where it has one, else the time at which it is decoded.
  std::vector<std::int64_t> times;
  const bool have_shown = std::all_of(shown.begin(), shown.end(), [&](std::int32_t i) { return stamps[static_cast<std::size_t>(i)].shown != none; });
  for (const auto i : shown) {
    const auto& stamp = stamps[static_cast<std::size_t>(i)];
    times.push_back(have_shown ? stamp.shown : stamp.decoded);
  }
  std::sort(times.begin(), times.end());
  if (times.front() == none || std::adjacent_find(times.begin(), times.end()) != times.end()) {
    // No usable stamps at all (a raw stream): frames follow each other at the rate that the stream declares.
    const double rate = guess.average > 0 ? guess.average : guess.lowest > 0 ? guess.lowest : 25.0;
    index.tick = 1.0 / rate;
    for (std::size_t i = 0; i < times.size(); ++i) times[i] = static_cast<std::int64_t>(i);
  }
  for (std::size_t i = 0; i < shown.size(); ++i) index.packets[static_cast<std::size_t>(shown[i])].time = times[i];
  // What shows nothing gets its own stamp, or counts as shown before all else: nobody will miss it.
  for (std::size_t i = 0; i < index.packets.size(); ++i)
    if (index.packets[i].frame < 0) index.packets[i].time = have_shown && stamps[i].shown != none ? stamps[i].shown : times.front() - 1;
}

void set_rate(VideoIndex& index, const RateGuess& guess) {
  const auto count = index.frame_count();
  const double span = index.seconds(count - 1);
  const double mean = count > 1 && span > 0 ? static_cast<double>(count - 1) / span : 0.0;
  for (const double rate : {guess.average, guess.lowest, mean}) {
    if (!constant_at(index, rate)) continue;
    index.rate = rate;  // the container's own value where it fits: the mean suffers from rounded stamps
    index.variable_rate = false;
    return;
  }
  index.rate = mean > 0 ? mean : std::max(guess.average, 0.0);
  index.variable_rate = count > 1;
}

}  // namespace sluice::decode
