// FakeSample: named streams in counted, guarded memory, as a host in tests hands them to a plugin.
//
//   FakeSample sample;
//   sample.put_clip("clip", 16, 64, 64, [](auto t, auto y, auto x, auto c) { return std::uint8_t(t + y + x + c); });
//   sample.put_label(3);
//   ... a plugin runs on it ...
//   sample.values<std::uint8_t>("clip"), sample.shape("clip"), sample.label(), sample.ledger().live()
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <sluice/array.hpp>
#include <sluice/info.hpp>
#include <sluice/rng.hpp>

namespace sluice::testing {

// Counts blocks, refuses what passes a limit, and notices a block released twice or written past its ends.
class Ledger {
 public:
  // Bytes that new blocks hold before anybody writes: run twice with two values to find output that was never written.
  std::uint8_t fill = 0xCD;

  abi::Block take(std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    if (bytes > (std::uint64_t{1} << 40) || limit_ - std::min(limit_, since_limit_) < bytes)
      throw Error(Code::plugin, "asked for " + std::to_string(bytes) + " bytes where " + std::to_string(limit_ - std::min(limit_, since_limit_)) +
                                    " are left of what out() declared");
    auto storage = std::make_unique<Storage>();
    storage->bytes.assign(bytes + 2 * guard, fill);
    std::fill_n(storage->bytes.begin(), guard, guard_byte);
    std::fill_n(storage->bytes.end() - guard, guard, guard_byte);
    storage->counted = limit_ != unlimited;
    void* data = storage->bytes.data() + guard;
    blocks_[data] = std::move(storage);
    live_ += bytes;
    peak_ = std::max(peak_, live_);
    if (limit_ != unlimited) since_limit_ += bytes;
    return {data, bytes, this, &Ledger::released};
  }

  // From here on new blocks together may hold this many bytes.
  void limit(std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    limit_ = bytes;
    since_limit_ = 0;
    for (auto& [data, storage] : blocks_) storage->counted = false;
  }
  void unlimit() { limit(unlimited); }

  [[nodiscard]] std::uint64_t live() const { const std::lock_guard lock(mutex_); return live_; }
  [[nodiscard]] std::uint64_t peak() const { const std::lock_guard lock(mutex_); return peak_; }
  [[nodiscard]] std::size_t blocks() const { const std::lock_guard lock(mutex_); return blocks_.size(); }
  // What went wrong beneath the plugin's return codes; empty when all is well.
  [[nodiscard]] std::vector<std::string> faults() const {
    const std::lock_guard lock(mutex_);
    auto all = faults_;
    for (const auto& [data, storage] : blocks_)
      if (!storage->whole()) all.push_back("a block of " + std::to_string(storage->bytes.size() - 2 * guard) + " bytes was written past its ends");
    return all;
  }

 private:
  static constexpr std::size_t guard = 64;
  static constexpr std::uint8_t guard_byte = 0xA5;
  static constexpr std::uint64_t unlimited = std::numeric_limits<std::uint64_t>::max();

  struct Storage {
    std::vector<std::uint8_t> bytes;
    bool counted = false;  // taken under the present limit

    [[nodiscard]] bool whole() const {
      const auto ok = [](std::uint8_t byte) { return byte == guard_byte; };
      return std::all_of(bytes.begin(), bytes.begin() + guard, ok) && std::all_of(bytes.end() - guard, bytes.end(), ok);
    }
  };

  static void released(void* owner, void* data, std::uint64_t bytes) { static_cast<Ledger*>(owner)->give_back(data, bytes); }
  void give_back(void* data, std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    const auto found = blocks_.find(data);
    if (found == blocks_.end()) {
      faults_.push_back("a block was released twice, or was never given out");
      return;
    }
    if (bytes + 2 * guard != found->second->bytes.size()) faults_.push_back("a block came back with another size");
    if (!found->second->whole()) faults_.push_back("a block of " + std::to_string(bytes) + " bytes was written past its ends");
    live_ -= found->second->bytes.size() - 2 * guard;
    if (found->second->counted) since_limit_ -= bytes;
    blocks_.erase(found);
  }

  mutable std::mutex mutex_;
  std::unordered_map<void*, std::unique_ptr<Storage>> blocks_;
  std::vector<std::string> faults_;
  std::uint64_t live_ = 0, peak_ = 0, limit_ = unlimited, since_limit_ = 0;
};

class FakeSample {
 public:
  struct Stream {
    bool is_text = false;
    std::string text;
    Array array;
  };

  std::uint64_t number = 0;
  std::uint64_t epoch = 0;
  bool training = true;

  // Bytes are copied in; `data` may be shorter only when empty (then the array holds the ledger's fill).
  void put(const std::string& name, DType dtype, const Shape& shape, std::string_view axes, std::span<const std::uint8_t> data, double rate = 0) {
    const auto bytes = static_cast<std::uint64_t>(shape.elements()) * bytes_of(dtype);
    Array array = Array::over(ledger_->take(std::max<std::uint64_t>(1, bytes)), dtype, shape, axes);
    if (!data.empty()) {
      if (data.size() != bytes) throw Error(Code::plugin, "FakeSample::put: the data has another size than the shape");
      std::memcpy(array.data(), data.data(), bytes);
    }
    array.set_rate(rate);
    streams_[name] = {false, {}, std::move(array)};
  }
  template <class T> void put_values(const std::string& name, const Shape& shape, std::string_view axes, const std::vector<T>& values) {
    put(name, DTypeOf<T>::value, shape, axes, {reinterpret_cast<const std::uint8_t*>(values.data()), values.size() * sizeof(T)});
  }
  // A THWC clip of three channels; pixel(t, y, x, c) gives each byte.
  template <class Pixel> void put_clip(const std::string& name, std::int64_t frames, std::int64_t height, std::int64_t width, Pixel pixel, double rate = 25) {
    std::vector<std::uint8_t> bytes;
    bytes.reserve(static_cast<std::size_t>(frames * height * width * 3));
    for (std::int64_t t = 0; t < frames; ++t)
      for (std::int64_t y = 0; y < height; ++y)
        for (std::int64_t x = 0; x < width; ++x)
          for (std::int64_t c = 0; c < 3; ++c) bytes.push_back(static_cast<std::uint8_t>(pixel(t, y, x, c)));
    put(name, DType::u8, {frames, height, width, 3}, "THWC", bytes, rate);
  }
  // A clip of noise, the same for the same seed.
  void put_noise(const std::string& name, std::int64_t frames, std::int64_t height, std::int64_t width, std::uint64_t seed = 1) {
    Rng rng(abi::RandomKey{seed, 0, 0, 0});
    put_clip(name, frames, height, width, [&](auto, auto, auto, auto) { return rng.bits() >> 56; });
  }
  void put_label(std::int64_t label) { put_values<std::int64_t>("label", {1}, "", {label}); }
  void put_text(const std::string& name, std::string text) { streams_[name] = {true, std::move(text), Array()}; }

  [[nodiscard]] bool has(const std::string& name) const { return streams_.contains(name); }
  [[nodiscard]] Stream& stream(const std::string& name) {
    const auto found = streams_.find(name);
    if (found == streams_.end()) throw Error(Code::plugin, "the sample has no stream '" + name + "'");
    return found->second;
  }
  [[nodiscard]] Array& array(const std::string& name) {
    auto& found = stream(name);
    if (found.is_text) throw Error(Code::plugin, "the stream '" + name + "' is a text");
    if (found.array.empty_handle()) throw Error(Code::plugin, "the stream '" + name + "' was taken and not put back");
    return found.array;
  }
  [[nodiscard]] Shape shape(const std::string& name) { return array(name).shape(); }
  [[nodiscard]] const std::string& text(const std::string& name) { return stream(name).text; }
  template <class T> [[nodiscard]] std::vector<T> values(const std::string& name) {
    const auto view = array(name).values<T>();
    return {view.begin(), view.end()};
  }
  [[nodiscard]] std::vector<std::uint8_t> bytes(const std::string& name) { return values<std::uint8_t>(name); }
  [[nodiscard]] std::int64_t label() { return values<std::int64_t>("label").at(0); }
  [[nodiscard]] std::uint8_t pixel(const std::string& name, std::int64_t t, std::int64_t y, std::int64_t x, std::int64_t c) {
    const auto& clip = array(name);
    return clip.data()[((t * clip.extent(1) + y) * clip.extent(2) + x) * clip.extent(3) + c];
  }

  // What is known of a stream before it exists: here, exactly what it is.
  [[nodiscard]] Info info(const std::string& name) {
    Info info;
    const auto& found = stream(name);
    info.text = found.is_text;
    if (found.is_text) return info;
    const auto& held = array(name);
    info.dtype = held.dtype();
    info.shape = held.shape();
    info.axes = held.axes();
    info.rate = held.rate();
    return info;
  }

  // The same streams in memory of their own.
  [[nodiscard]] FakeSample copy() {
    FakeSample out;
    out.number = number, out.epoch = epoch, out.training = training;
    for (auto& [name, held] : streams_) {
      if (held.is_text) out.put_text(name, held.text);
      else out.put(name, held.array.dtype(), held.array.shape(), held.array.axes(), {held.array.data(), static_cast<std::size_t>(held.array.bytes())}, held.array.rate());
    }
    return out;
  }

  [[nodiscard]] Ledger& ledger() { return *ledger_; }
  [[nodiscard]] std::map<std::string, Stream>& streams() { return streams_; }

 private:
  std::unique_ptr<Ledger> ledger_ = std::make_unique<Ledger>();  // outlives the arrays below
  std::map<std::string, Stream> streams_;
};

}  // namespace sluice::testing
