// Frame choice: maps the length and the times of a video to the numbers of the frames that a sample consists of.
//
//   struct Middle {
//     std::int64_t frames = 16;
//     static constexpr auto fields = sluice::fields(sluice::field(&Middle::frames, "frames", "frames of a clip", sluice::at_least(1)));
//     std::int64_t count(const sluice::Video&) const { return frames; }
//     std::vector<std::int64_t> operator()(const sluice::Video& video, sluice::Rng&) const { ... }
//   };
//   SLUICE_FRAMES(Middle, "frames.middle");
//
// A pure function of its arguments. It runs before anything is decoded: count() is what a sample's bytes follow from.
// Numbers lie in [0, video.frames()); they may repeat and come in any order. Optional: views(bool training), how many
// clips of each video evaluation takes; wants_times, when it needs every frame's time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <sluice/plugin.hpp>
#include <sluice/rng.hpp>

namespace sluice {

// A video, or a piece of one; frame 0 is the first of the piece.
class Video {
 public:
  explicit Video(const abi::Video* raw) : raw_(raw) {}

  [[nodiscard]] std::int64_t frames() const { return raw_->frames; }
  [[nodiscard]] double rate() const { return raw_->rate; }  // frames a second, the mean where it varies
  [[nodiscard]] bool training() const { return raw_->training != 0; }
  [[nodiscard]] std::int64_t view() const { return raw_->view; }  // in evaluation: which clip of `views()`
  [[nodiscard]] std::int64_t views() const { return raw_->views; }
  // Seconds from the first frame, increasing; empty when the rate is constant and the sampler did not ask.
  [[nodiscard]] std::span<const double> times() const {
    return {raw_->times, raw_->times ? static_cast<std::size_t>(raw_->frames) : 0};
  }
  [[nodiscard]] double time(std::int64_t frame) const {
    return raw_->times ? raw_->times[frame] : raw_->rate > 0 ? static_cast<double>(frame) / raw_->rate : 0.0;
  }

 private:
  const abi::Video* raw_;
};

namespace detail {

template <class T> concept HasViews = requires(const T& t) { { t.views(true) } -> std::convertible_to<std::int64_t>; };
template <class T> concept WantsTimes = requires { requires T::wants_times; };

template <class T> struct FramesCalls {
  static std::int64_t count(const void* recipe, const abi::Video* video, abi::Failure* failure) {
    std::int64_t n = -1;
    guarded(failure, [&] { n = static_cast<const T*>(recipe)->count(Video(video)); });
    return n;
  }
  static int choose(const void* recipe, const abi::Video* video, const abi::RandomKey* key, std::int64_t* frames, std::int64_t wanted, abi::Failure* failure) {
    return guarded(failure, [&] {
      Rng rng(*key);
      const std::vector<std::int64_t> chosen = (*static_cast<const T*>(recipe))(Video(video), rng);
      if (static_cast<std::int64_t>(chosen.size()) != wanted)
        throw Error(Code::plugin, "it chose " + std::to_string(chosen.size()) + " frames after count() had promised " + std::to_string(wanted));
      std::copy(chosen.begin(), chosen.end(), frames);
    });
  }
  static std::int64_t views(const void* recipe, std::uint32_t training) {
    if constexpr (HasViews<T>) return static_cast<const T*>(recipe)->views(training != 0);
    else return static_cast<void>(recipe), static_cast<void>(training), 0;
  }
  static constexpr abi::FramesTable table{sizeof(abi::FramesTable), &count, &choose, &views, WantsTimes<T> ? 1u : 0u};

  static constexpr abi::Descriptor descriptor(const abi::Manifest* manifest) {
    auto out = Common<T>::descriptor(abi::Kind::frames, manifest);
    out.frames = &table;
    return out;
  }
};

}  // namespace detail
}  // namespace sluice

#define SLUICE_FRAMES(TYPE, NAME)                                                                                    \
  SLUICE_REGISTER((::sluice::detail::make_manifest<TYPE>(NAME, ::sluice::abi::Kind::frames,                           \
                                                         ::sluice::abi::manifest_parallel, "")),                      \
                  ::sluice::detail::FramesCalls<TYPE>::descriptor)
