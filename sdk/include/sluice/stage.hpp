// A stage turns the streams of a sample into other streams: an augmentation, a conversion, a check.
//
//   struct HFlip {
//     double p = 0.5;
//     static constexpr auto fields = sluice::fields(sluice::field(&HFlip::p, "p", "chance that a clip is mirrored", sluice::range(0, 1)));
//     sluice::Clip operator()(sluice::Clip clip, sluice::Rng& rng) const { ... }
//   };
//   SLUICE_STAGE(HFlip, "augment.hflip");
//
// The call operator takes one of these shapes; the host calls it once for each stream of `on`, or once for the sample:
//   Clip  operator()(Clip, Rng&) const        video of any size
//   Array operator()(Array, Memory, Rng&) const   any array
//   void  operator()(Sample&, Rng&) const     several streams; declare what it reads and writes:
//       static constexpr std::string_view reads = "*,label", writes = "*,label";   (* = the streams of `on`)
// const: may run on several samples at once. Not const: one instance a worker, whose state is scratch. With
// `static constexpr bool ordered = true`: one instance, in sample order; such a stage may have save() and load().
// `static constexpr bool whole_clip = true`: it looks at several frames of a clip at once, or at where they stand in it (a reversal);
// then clips are not cut into chunks.
// A stage that changes shape or type, or needs bytes beside input and output, declares it:
//   Info out(const Info& in) const      or, for a stage on Sample,      void out(Infos&) const
// Optional: help (one line), check(), prepare(const Context&), describe(), threads (that its library starts).
// Throw sluice::Error(Code::data, ...) for a sample that cannot be used: it is skipped and counted.
#pragma once

#include <concepts>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include <sluice/array.hpp>
#include <sluice/clip.hpp>
#include <sluice/info.hpp>
#include <sluice/plugin.hpp>
#include <sluice/rng.hpp>
#include <sluice/sample.hpp>

namespace sluice::detail {

template <class T> concept ClipStage = requires(T& t, Clip clip, Rng& rng) { { t(std::move(clip), rng) } -> std::same_as<Clip>; };
template <class T> concept ArrayStage = requires(T& t, Array array, Memory memory, Rng& rng) { { t(std::move(array), memory, rng) } -> std::same_as<Array>; };
template <class T> concept SampleStage = requires(T& t, Sample& sample, Rng& rng) { { t(sample, rng) } -> std::same_as<void>; };
template <class T> concept ConstCall = ClipStage<const T> || ArrayStage<const T> || SampleStage<const T>;
template <class T> concept HasOutInfo = requires(const T& t, const Info& info) { { t.out(info) } -> std::same_as<Info>; };
template <class T> concept HasOutInfos = requires(const T& t, Infos& infos) { t.out(infos); };
template <class T> concept HasState = requires(const T& t, T& m, std::span<const std::byte> bytes) {
  { t.save() } -> std::convertible_to<std::string>;
  m.load(bytes);
};

template <class T> struct StageCalls {
  static_assert(ClipStage<T> || ArrayStage<T> || SampleStage<T>,
                "a stage needs Clip operator()(Clip, Rng&), Array operator()(Array, Memory, Rng&) or void operator()(Sample&, Rng&)");
  static_assert(!HasState<T> || IsOrdered<T>, "only an ordered stage may have state to save");

  static int run(void* recipe, abi::Sample* raw, const abi::RandomKey* key, abi::Failure* failure) {
    return guarded(failure, [&] {
      auto& stage = *static_cast<T*>(recipe);
      Sample sample(raw);
      if constexpr (SampleStage<T>) {
        Rng rng(*key);
        stage(sample, rng);
      } else {
        std::uint32_t occurrence = 0;
        for (const auto stream : sample.on()) {
          abi::RandomKey own = *key;
          if (own.stream != 0) own.stream += occurrence++;  // `independent`: a decision for each stream
          Rng rng(own);
          if constexpr (ClipStage<T>) sample.put(stream, stage(sample.take_clip(stream), rng));
          else sample.put(stream, stage(sample.take(stream), sample.memory(), rng));
        }
      }
    });
  }
  static int out(const void* recipe, abi::InfoMap* raw, abi::Failure* failure) {
    return guarded(failure, [&] {
      const auto& stage = *static_cast<const T*>(recipe);
      Infos infos(raw);
      if constexpr (HasOutInfos<T>) {
        stage.out(infos);
      } else if constexpr (HasOutInfo<T>) {
        for (const auto stream : infos.on()) infos.put(stream, stage.out(infos.get(stream)));
      } else {
        static_cast<void>(stage);
      }
    });
  }
  static int save(const void* recipe, void* sink, int (*write)(void*, const void*, std::uint64_t), abi::Failure* failure) {
    return guarded(failure, [&] {
      if constexpr (HasState<T>) {
        const std::string bytes = static_cast<const T*>(recipe)->save();
        if (write(sink, bytes.data(), bytes.size()) != 0) throw Error(Code::io, "the state could not be written");
      } else {
        static_cast<void>(recipe), static_cast<void>(sink), static_cast<void>(write);
      }
    });
  }
  static int load(void* recipe, const void* data, std::uint64_t bytes, abi::Failure* failure) {
    return guarded(failure, [&] {
      if constexpr (HasState<T>) static_cast<T*>(recipe)->load({static_cast<const std::byte*>(data), bytes});
      else static_cast<void>(recipe), static_cast<void>(data), static_cast<void>(bytes);
    });
  }

  static constexpr abi::StageTable table{sizeof(abi::StageTable), &run, &out, HasState<T> ? &save : nullptr, HasState<T> ? &load : nullptr};
  static constexpr std::uint32_t flags =
      (IsOrdered<T> ? static_cast<std::uint32_t>(abi::manifest_ordered) : ConstCall<T> ? static_cast<std::uint32_t>(abi::manifest_parallel) : 0u) |
      (WantsWholeClip<T> ? static_cast<std::uint32_t>(abi::manifest_whole_clip) : 0u);

  static constexpr abi::Descriptor descriptor(const abi::Manifest* manifest) {
    auto out = Common<T>::descriptor(abi::Kind::stage, manifest);
    out.stage = &table;
    return out;
  }
};

}  // namespace sluice::detail

#define SLUICE_STAGE(TYPE, NAME)                                                                                       \
  SLUICE_REGISTER((::sluice::detail::make_manifest<TYPE>(NAME, ::sluice::abi::Kind::stage,                              \
                                                         ::sluice::detail::StageCalls<TYPE>::flags, "")),               \
                  ::sluice::detail::StageCalls<TYPE>::descriptor)
