// Implements frame_reader.hpp.
#include "frame_reader.hpp"

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include <sluice/error.hpp>

namespace sluice::decode {

namespace {

// Where to try again when a run that starts at a key packet does not deliver: containers call packets key that are none.
// -1: nowhere.
std::int32_t earlier_start(const VideoIndex& index, std::int32_t first, int attempt) {
  constexpr std::int32_t affordable = 1000;  // packets decoded for nothing, on a file that is likely damaged
  if (first == 0) return -1;
  if (attempt > 0) return attempt == 1 && first <= affordable ? 0 : -1;
  for (std::int32_t at = first - 1; at > 0; --at) {
    const auto& packet = index.packets[static_cast<std::size_t>(at)];
    if (packet.key && packet.time <= index.packets[static_cast<std::size_t>(first)].time) return at;  // as start_for() has it
  }
  return 0;
}

}  // namespace

FrameReader::FrameReader(const InputFile& file, const VideoIndex& index, AVDiscard unasked)
    : file_(file), index_(index), unasked_(unasked), source_(file, index), decoder_(*index.parameters, index.reorder, FrameDecoder::Show::all) {}

void FrameReader::read(std::span<const std::int64_t> frames, const Take& take) {
  pending_.clear();
  for (const auto frame : frames) pending_.push_back(index_.frames[static_cast<std::size_t>(frame)]);
  std::sort(pending_.begin(), pending_.end());
  const std::vector<std::int32_t> packets = pending_;
  for (const auto& planned : plan_runs(index_, packets)) {
    Run run = planned;
    for (int attempt = 0;; ++attempt) {
      // What was skipped is decoded when it is tried again: in some old streams the next frame hides in a skipped packet.
      const auto problem = decode(run, attempt == 0 && index_.stamped ? unasked_ : AVDISCARD_DEFAULT, take);
      if (problem.empty()) break;
      const auto earlier = earlier_start(index_, run.first, attempt);
      if (earlier < 0) fail(pending_.front(), problem);
      run.first = earlier;
      ++work_.retries;
    }
  }
}

std::string FrameReader::decode(const Run& run, AVDiscard unasked, const Take& take) {
  LogScope log;
  if (used_) decoder_.reset();
  used_ = true;
  ++work_.runs;
  const auto& start = index_.packets[static_cast<std::size_t>(run.first)];
  std::string problem;
  // What is stored after the start and shown before it may refer to what was not decoded: it counts only if wanted.
  const auto matters = [&](std::int32_t number) { return index_.packets[static_cast<std::size_t>(number)].time >= start.time || is_pending(number); };
  const auto receive = [&](std::int32_t sent, int status) {
    for (;;) {
      if (status < 0 && matters(sent)) problem = "packet " + std::to_string(sent) + ": " + log.explain(status);
      const AVFrame* frame = decoder_.receive(status);
      if (!frame && status < 0) continue;
      if (!frame || !problem.empty()) return;
      const auto number = static_cast<std::int32_t>(FrameDecoder::number_of(*frame));
      const bool damaged = frame->decode_error_flags != 0 || (frame->flags & AV_FRAME_FLAG_CORRUPT) != 0 ||
                           (decoder_.reports_only_in_log() && !log.explain(0).empty());
      if (damaged && matters(number)) problem = "packet " + std::to_string(number) + " is damaged: " + log.explain(0);
      else if (number == run.first && (frame->pict_type == AV_PICTURE_TYPE_P || frame->pict_type == AV_PICTURE_TYPE_B))
        problem = "packet " + std::to_string(number) + " is called a key frame and refers to others";
      else if (is_pending(number)) {
        take(index_.packets[static_cast<std::size_t>(number)].frame, *frame);
        pending_.erase(std::lower_bound(pending_.begin(), pending_.end(), number));
      }
    }
  };
  for (std::int32_t number = run.first; number <= run.last && problem.empty(); ++number) {
    const bool wanted = is_pending(number);
    if (!wanted && unasked >= AVDISCARD_NONREF && index_.packets[static_cast<std::size_t>(number)].droppable) continue;
    log.clear();
    ++work_.packets;
    receive(number, decoder_.send(source_.read(number), number, wanted ? AVDISCARD_DEFAULT : unasked));
  }
  if (!problem.empty()) return problem;
  receive(run.last, decoder_.drain());
  if (problem.empty() && !pending_.empty() && pending_.front() <= run.last)
    problem = "packet " + std::to_string(pending_.front()) + " gave no picture" + (log.explain(0).empty() ? "" : ": " + log.explain(0));
  return problem;
}

bool FrameReader::is_pending(std::int32_t packet) const { return std::binary_search(pending_.begin(), pending_.end(), packet); }

void FrameReader::fail(std::int32_t packet, const std::string& why) const {
  const auto frame = index_.packets[static_cast<std::size_t>(packet)].frame;
  char seconds[32];
  std::snprintf(seconds, sizeof seconds, "%.3f", index_.seconds(frame));
  throw Error(Code::data,
              file_.name() + ": frame " + std::to_string(frame) + " of " + std::to_string(index_.frame_count()) + " (at " + seconds +
                  " s) cannot be decoded: " + why,
              "the file is damaged there; other frames of it may be whole");
}

}  // namespace sluice::decode
