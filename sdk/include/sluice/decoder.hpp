// A decoder turns a path and frame numbers into a Clip, and reads the head of a file.
//
//   struct MyDecoder {
//     sluice::Header probe(const std::string& path) const;              // frames, size as shown, rate
//     std::vector<double> times(const std::string& path) const;         // seconds, one for each frame
//     sluice::Info out(const sluice::Info& in) const;                   // in: frames x native size; out: what it delivers, scratch: its working set
//     sluice::Clip operator()(const sluice::FrameRequest& request, sluice::Memory memory) const;
//   };
//   SLUICE_DECODER(MyDecoder, "decode.mine");
//
// It reads the text stream S (the path) and the array S.frames (int64), and writes the array S in their place and
// S.times (float64 seconds). The clip must hold exactly the frames asked for, in the order asked for. A file that does
// not hold what its head promised is sluice::Error(Code::data). Safe to call from several threads at once.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <sluice/clip.hpp>
#include <sluice/info.hpp>
#include <sluice/plugin.hpp>

namespace sluice {

struct Header {
  std::int64_t frames = 0;
  std::int64_t width = 0;   // as shown: after rotation
  std::int64_t height = 0;
  double rate = 0;          // frames a second; the mean where it varies
  bool variable_rate = false;
};

struct FrameRequest {
  std::string path;
  std::span<const std::int64_t> frames;  // numbers in presentation order of the file; may repeat, any order
  std::span<double> times;               // to be filled: seconds from the file's first frame, one for each of `frames`
};

namespace detail {

template <class T> struct DecoderCalls {
  static int probe(const void* recipe, abi::Text path, abi::Header* header, abi::Failure* failure) {
    return guarded(failure, [&] {
      const Header found = static_cast<const T*>(recipe)->probe(text_of(path));
      *header = {sizeof(abi::Header), found.variable_rate ? 1u : 0u, found.frames, found.width, found.height, found.rate};
    });
  }
  static int times(const void* recipe, abi::Text path, void* sink, void (*put)(void*, const double*, std::uint64_t), abi::Failure* failure) {
    return guarded(failure, [&] {
      const std::vector<double> all = static_cast<const T*>(recipe)->times(text_of(path));
      put(sink, all.data(), all.size());
    });
  }
  static int run(void* recipe, abi::Sample* raw, const abi::RandomKey*, abi::Failure* failure) {
    return guarded(failure, [&] {
      Sample sample(raw);
      for (const auto stream : sample.on()) {
        const std::string name(stream);
        const Array frames = sample.view(name + ".frames");
        Array times = sample.memory().array(DType::f64, frames.shape(), "T");
        const FrameRequest request{std::string(sample.text(name)), frames.values<std::int64_t>(), times.values<double>()};
        sample.put(name, (*static_cast<const T*>(recipe))(request, sample.memory()));
        sample.put(name + ".times", std::move(times));
      }
    });
  }
  static int out(const void* recipe, abi::InfoMap* raw, abi::Failure* failure) {
    return guarded(failure, [&] {
      Infos infos(raw);
      for (const auto stream : infos.on()) infos.put(stream, static_cast<const T*>(recipe)->out(infos.get(stream)));
    });
  }

  static constexpr abi::StageTable stage_table{sizeof(abi::StageTable), &run, &out, nullptr, nullptr};
  static constexpr abi::DecoderTable table{sizeof(abi::DecoderTable), &probe, &times};

  static constexpr abi::Descriptor descriptor(const abi::Manifest* manifest) {
    auto out = Common<T>::descriptor(abi::Kind::decoder, manifest);
    out.stage = &stage_table;
    out.decoder = &table;
    return out;
  }
};

}  // namespace detail
}  // namespace sluice

#define SLUICE_DECODER(TYPE, NAME)                                                                                     \
  SLUICE_REGISTER((::sluice::detail::make_manifest<TYPE>(NAME, ::sluice::abi::Kind::decoder,                            \
                                                         ::sluice::abi::manifest_parallel, "")),                        \
                  ::sluice::detail::DecoderCalls<TYPE>::descriptor)
