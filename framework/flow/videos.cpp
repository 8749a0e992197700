// Every answer of a plugin is checked here before anything relies on it.
#include "framework/flow/videos.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include <sluice/sample.hpp>

#include "framework/base/strings.hpp"

namespace sluice {
namespace {

// The data's fault is a reason; a plugin's or the pipeline's fault ends the run.
std::string reason_or_throw(int status, const abi::Failure& failure, const std::string& where) {
  const auto code = static_cast<Code>(failure.code != 0 ? failure.code : status);
  if (code != Code::data && code != Code::io) throw_failure(status, failure, where);
  return failure.what[0] ? failure.what : "it cannot be read";
}

constexpr std::int64_t most_frames = std::int64_t{1} << 31;
constexpr std::int64_t most_pixels = std::int64_t{1} << 16;  // along one side

}  // namespace

OrReason<abi::Header> read_header(const Recipe& decoder, const std::string& path) {
  abi::Header header{};
  header.size = sizeof header;
  auto failure = detail::no_failure();
  const int status = decoder.descriptor().decoder->probe(decoder.instance(), detail::text(path), &header, &failure);
  if (status != 0) return reason_or_throw(status, failure, fmt::format("{}, reading the header of {}", decoder.name(), path));
  if (header.frames < 1 || header.frames > most_frames) return fmt::format("its header says {} frames", header.frames);
  if (header.width < 1 || header.height < 1 || header.width > most_pixels || header.height > most_pixels)
    return fmt::format("its header says {} x {} pixels", header.width, header.height);
  if (!std::isfinite(header.rate) || header.rate < 0) return fmt::format("its header says {} frames a second", header.rate);
  return header;
}

OrReason<std::vector<double>> read_times(const Recipe& decoder, const std::string& path) {
  std::vector<double> times;
  auto failure = detail::no_failure();
  const auto sink = [](void* to, const double* values, std::uint64_t n) { static_cast<std::vector<double>*>(to)->assign(values, values + n); };
  const int status = decoder.descriptor().decoder->times(decoder.instance(), detail::text(path), &times, sink, &failure);
  if (status != 0) return reason_or_throw(status, failure, fmt::format("{}, reading the frame times of {}", decoder.name(), path));
  if (times.empty()) return std::string("it has no frame times");
  for (std::size_t i = 0; i < times.size(); ++i)
    if (!std::isfinite(times[i]) || (i > 0 && times[i] < times[i - 1])) return fmt::format("its frame times do not increase at frame {}", i);
  const double start = times.front();
  for (auto& time : times) time -= start;
  return times;
}

OrReason<FrameRange> frame_range(Unit unit, double start, double end, std::int64_t frames, double rate, const std::vector<double>& times) {
  if (unit == Unit::whole) return FrameRange{0, frames};
  if (!std::isfinite(start) || !std::isfinite(end) || start < 0) return fmt::format("the piece from {} to {} makes no sense", start, end);
  if (end <= start) return fmt::format("the piece from {} to {} is empty", start, end);
  const auto length = static_cast<double>(frames);
  double first = 0, last = 0;
  switch (unit) {
    case Unit::whole: break;
    case Unit::frames: first = std::ceil(start), last = std::ceil(end); break;
    case Unit::fraction: first = std::round(start * length), last = std::round(end * length); break;
    case Unit::seconds:
      if (!times.empty()) {
        first = static_cast<double>(std::lower_bound(times.begin(), times.end(), start) - times.begin());
        last = static_cast<double>(std::lower_bound(times.begin(), times.end(), end) - times.begin());
      } else if (rate > 0) {
        constexpr double rounding = 1e-6;  // 10 / 3 s at 30 frames/s is frame 100, not 101
        first = std::ceil(start * rate - rounding), last = std::ceil(end * rate - rounding);
      } else {
        return std::string("the piece is given in seconds, and the file has no frame rate");
      }
      break;
    default: return std::string("the piece has an unknown unit");
  }
  last = std::min(last, length);
  if (first >= last) return fmt::format("the piece from {} to {} lies behind the end of the video ({} frames)", start, end, frames);
  return FrameRange{static_cast<std::int64_t>(first), static_cast<std::int64_t>(last - first)};
}

OrReason<std::int64_t> count_frames(const Recipe& sampler, const abi::Video& video) {
  auto failure = detail::no_failure();
  const auto count = sampler.descriptor().frames->count(sampler.instance(), &video, &failure);
  if (count < 0 && failure.code != 0) return reason_or_throw(failure.code, failure, sampler.name());
  if (count < 1 || count > most_frames) return fmt::format("{} would take {} of its {} frames", sampler.name(), count, video.frames);
  return count;
}

OrReason<std::vector<std::int64_t>> choose_frames(const Recipe& sampler, const abi::Video& video, const abi::RandomKey& key, std::int64_t first,
                                                  std::int64_t count) {
  std::vector<std::int64_t> chosen(static_cast<std::size_t>(count), -1);
  auto failure = detail::no_failure();
  const int status = sampler.descriptor().frames->choose(sampler.instance(), &video, &key, chosen.data(), count, &failure);
  if (status != 0) return reason_or_throw(status, failure, sampler.name());
  for (auto& frame : chosen) {
    if (frame < 0 || frame >= video.frames)
      throw Error(Code::plugin, fmt::format("it chose frame {} of a video of {} frames", frame, video.frames), "frame numbers lie in [0, video.frames())", sampler.name());
    frame += first;
  }
  return chosen;
}

std::shared_ptr<const std::vector<double>> TimesCache::get(const Recipe& decoder, std::uint32_t file, const std::string& path) {
  if (const auto found = by_file_.find(file); found != by_file_.end()) {
    items_.splice(items_.begin(), items_, found->second);
    return found->second->times;
  }
  auto read = read_times(decoder, path);
  if (const auto* why = std::get_if<std::string>(&read)) throw Error(Code::data, *why);
  auto times = std::make_shared<const std::vector<double>>(std::move(std::get<0>(read)));
  held_ += times->size() * sizeof(double);
  items_.push_front({file, times});
  by_file_[file] = items_.begin();
  while (held_ > most_ && items_.size() > 1) {
    held_ -= items_.back().times->size() * sizeof(double);
    by_file_.erase(items_.back().file);
    items_.pop_back();
  }
  return times;
}

void in_parallel(std::size_t n, std::int64_t workers, const std::function<void(std::size_t)>& job, const std::function<void(double)>& progress) {
  if (n == 0) return;
  std::atomic<std::size_t> next{0};
  std::atomic<std::size_t> done{0};
  std::mutex mutex;
  std::condition_variable finished;
  std::size_t running = std::min(n, static_cast<std::size_t>(std::max<std::int64_t>(1, workers)));
  std::size_t first_error = n;
  std::exception_ptr error;

  const auto work = [&] {
    for (;;) {
      const auto i = next.fetch_add(1);
      if (i >= n) break;
      try {
        job(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (i < first_error) first_error = i, error = std::current_exception();
        next.store(n);  // the rest is in vain
      }
      done.fetch_add(1);
    }
    const std::lock_guard lock(mutex);
    if (--running == 0) finished.notify_all();
  };
  std::vector<std::jthread> threads;
  for (std::size_t i = 0, count = running; i < count; ++i) threads.emplace_back(work);
  {
    std::unique_lock lock(mutex);
    while (!finished.wait_for(lock, std::chrono::milliseconds(100), [&] { return running == 0; })) {
      lock.unlock();
      if (progress) progress(static_cast<double>(done.load()) / static_cast<double>(n));
      lock.lock();
    }
  }
  threads.clear();  // joins
  if (error) std::rethrow_exception(error);
  if (progress) progress(1.0);
}

}  // namespace sluice
