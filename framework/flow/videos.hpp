// Calls to decoders and samplers outside the graph: headers, frame times, and which frames of a video make a sample.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include <sluice/source.hpp>

#include "framework/plugin/recipe.hpp"

namespace sluice {

// A result, or why the data does not give one. Other errors are thrown.
template <class T> using OrReason = std::variant<T, std::string>;

[[nodiscard]] OrReason<abi::Header> read_header(const Recipe& decoder, const std::string& path);
// Seconds from the file's first frame, one for each frame.
[[nodiscard]] OrReason<std::vector<double>> read_times(const Recipe& decoder, const std::string& path);

// The piece [start, end) of a video as frames: {first, how many}. `times` is empty where the rate is constant.
struct FrameRange {
  std::int64_t first = 0;
  std::int64_t frames = 0;
};
[[nodiscard]] OrReason<FrameRange> frame_range(Unit unit, double start, double end, std::int64_t frames, double rate, const std::vector<double>& times);

// How many frames the sampler will choose, and which, counted from the start of the file.
[[nodiscard]] OrReason<std::int64_t> count_frames(const Recipe& sampler, const abi::Video& video);
[[nodiscard]] OrReason<std::vector<std::int64_t>> choose_frames(const Recipe& sampler, const abi::Video& video, const abi::RandomKey& key, std::int64_t first,
                                                                std::int64_t count);

// Frame times of the files used last, at most so many bytes of them. For one thread.
class TimesCache {
 public:
  explicit TimesCache(std::uint64_t most_bytes) : most_(most_bytes) {}
  // Throws Code::data when the times cannot be read.
  [[nodiscard]] std::shared_ptr<const std::vector<double>> get(const Recipe& decoder, std::uint32_t file, const std::string& path);

 private:
  struct Item {
    std::uint32_t file;
    std::shared_ptr<const std::vector<double>> times;
  };
  std::uint64_t most_;
  std::uint64_t held_ = 0;
  std::list<Item> items_;  // newest first
  std::unordered_map<std::uint32_t, std::list<Item>::iterator> by_file_;
};

// Runs job(0) ... job(n - 1) on so many threads; progress is called on this one. The error of the lowest number is thrown.
void in_parallel(std::size_t n, std::int64_t workers, const std::function<void(std::size_t)>& job, const std::function<void(double)>& progress);

}  // namespace sluice
