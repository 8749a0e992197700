// Sample: the named streams of one sample, for stages that work on more than one of them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <sluice/array.hpp>
#include <sluice/clip.hpp>
#include <sluice/error.hpp>
#include <sluice/info.hpp>

namespace sluice {

namespace detail {
inline abi::Text text(std::string_view view) { return {view.data(), view.size()}; }
inline abi::Failure no_failure() {
  abi::Failure failure{};
  failure.size = sizeof failure;
  return failure;
}
inline void throw_if(int status, const abi::Failure& failure) {
  if (status != 0) throw Error(static_cast<Code>(failure.code), failure.what, failure.hint);
}
}  // namespace detail

// A handle, valid during the call. Reading or writing a stream that the stage did not declare is an error.
class Sample {
 public:
  explicit Sample(abi::Sample* raw) : raw_(raw) {}

  [[nodiscard]] bool training() const { return raw_->training != 0; }
  [[nodiscard]] std::uint64_t number() const { return raw_->number; }
  [[nodiscard]] std::uint64_t epoch() const { return raw_->epoch; }

  // The streams that the pipeline put this stage on.
  [[nodiscard]] std::vector<std::string_view> on() const {
    std::vector<std::string_view> names;
    for (std::uint64_t i = 0; i < raw_->on_count; ++i) names.emplace_back(raw_->on[i].data, raw_->on[i].size);
    return names;
  }

  // A text stream; valid during the call.
  [[nodiscard]] std::string_view text(std::string_view stream) const {
    abi::Text value{nullptr, 0};
    auto failure = detail::no_failure();
    detail::throw_if(raw_->get(raw_->host, detail::text(stream), nullptr, &value, &failure), failure);
    return {value.data, value.size};
  }
  // An array that stays in the sample: a view whose destruction releases nothing.
  [[nodiscard]] Array view(std::string_view stream) const {
    abi::Array borrowed{};
    auto failure = detail::no_failure();
    detail::throw_if(raw_->get(raw_->host, detail::text(stream), &borrowed, nullptr, &failure), failure);
    borrowed.block.release = nullptr;
    return Array(borrowed);
  }
  // Moves a stream out; put something back under its name.
  [[nodiscard]] Array take(std::string_view stream) {
    abi::Array owned{};
    auto failure = detail::no_failure();
    detail::throw_if(raw_->take(raw_->host, detail::text(stream), &owned, &failure), failure);
    return Array(owned);
  }
  [[nodiscard]] Clip take_clip(std::string_view stream) { return Clip(take(stream), memory()); }
  void put(std::string_view stream, Array array) {
    abi::Array raw = array.release();
    auto failure = detail::no_failure();
    detail::throw_if(raw_->put(raw_->host, detail::text(stream), &raw, &failure), failure);
  }
  void put(std::string_view stream, Clip clip) { put(stream, std::move(clip).into_array()); }
  void put_text(std::string_view stream, std::string_view value) {
    auto failure = detail::no_failure();
    detail::throw_if(raw_->put_text(raw_->host, detail::text(stream), detail::text(value), &failure), failure);
  }

  [[nodiscard]] Memory memory() const { return Memory(raw_); }

 private:
  abi::Sample* raw_;
};

// Streams by name before they exist, for `out` of a stage on several streams.
class Infos {
 public:
  explicit Infos(abi::InfoMap* raw) : raw_(raw) {}

  [[nodiscard]] std::vector<std::string_view> on() const {
    std::vector<std::string_view> names;
    for (std::uint64_t i = 0; i < raw_->on_count; ++i) names.emplace_back(raw_->on[i].data, raw_->on[i].size);
    return names;
  }
  [[nodiscard]] Info get(std::string_view stream) const {
    abi::Info info{};
    auto failure = detail::no_failure();
    detail::throw_if(raw_->get(raw_->host, detail::text(stream), &info, &failure), failure);
    return Info::from(info);
  }
  void put(std::string_view stream, const Info& info) {
    const abi::Info raw = info.raw();
    auto failure = detail::no_failure();
    detail::throw_if(raw_->put(raw_->host, detail::text(stream), &raw, &failure), failure);
  }

 private:
  abi::InfoMap* raw_;
};

}  // namespace sluice
