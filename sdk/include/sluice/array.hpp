// Array: a typed n-d block of bytes that owns its memory, and Memory, where a stage gets a new one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <sluice/abi.hpp>
#include <sluice/error.hpp>

namespace sluice {

enum class DType : std::uint8_t { u8 = 1, i32, i64, f32, f64, u16, f16 };

constexpr std::uint64_t bytes_of(DType dtype) {
  switch (dtype) {
    case DType::u8: return 1;
    case DType::u16:
    case DType::f16: return 2;
    case DType::i32:
    case DType::f32: return 4;
    case DType::i64:
    case DType::f64: return 8;
  }
  return 0;
}

constexpr std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::u8: return "uint8";
    case DType::u16: return "uint16";
    case DType::f16: return "float16";
    case DType::i32: return "int32";
    case DType::i64: return "int64";
    case DType::f32: return "float32";
    case DType::f64: return "float64";
  }
  return "unknown";
}

template <class T> struct DTypeOf;
template <> struct DTypeOf<std::uint8_t> { static constexpr DType value = DType::u8; };
template <> struct DTypeOf<std::uint16_t> { static constexpr DType value = DType::u16; };
template <> struct DTypeOf<std::int32_t> { static constexpr DType value = DType::i32; };
template <> struct DTypeOf<std::int64_t> { static constexpr DType value = DType::i64; };
template <> struct DTypeOf<float> { static constexpr DType value = DType::f32; };
template <> struct DTypeOf<double> { static constexpr DType value = DType::f64; };

// Extents of an Array, at most abi::max_rank of them.
class Shape {
 public:
  constexpr Shape() = default;
  constexpr Shape(std::initializer_list<std::int64_t> extents) {
    for (const auto extent : extents) push_back(extent);
  }

  constexpr void push_back(std::int64_t extent) {
    if (rank_ == abi::max_rank) throw Error(Code::plugin, "an array has at most 8 axes");
    extents_[rank_++] = extent;
  }
  [[nodiscard]] constexpr int rank() const { return rank_; }
  constexpr std::int64_t& operator[](int axis) { return extents_[axis]; }
  constexpr std::int64_t operator[](int axis) const { return extents_[axis]; }
  [[nodiscard]] constexpr const std::int64_t* begin() const { return extents_; }
  [[nodiscard]] constexpr const std::int64_t* end() const { return extents_ + rank_; }

  // Product of the extents; 1 for a scalar. Throws Code::data when an extent is negative or the product passes 2^62.
  [[nodiscard]] constexpr std::int64_t elements() const {
    std::int64_t product = 1;
    for (const auto extent : *this) {
      if (extent < 0) throw Error(Code::data, "an array has a negative extent");
      if (extent != 0 && product > (std::int64_t{1} << 62) / extent) throw Error(Code::data, "an array is larger than 2^62 elements");
      product *= extent;
    }
    return product;
  }

  [[nodiscard]] std::string text() const {
    std::string out = "[";
    for (int i = 0; i < rank_; ++i) out += (i ? ", " : "") + std::to_string(extents_[i]);
    return out + "]";
  }

  friend constexpr bool operator==(const Shape& a, const Shape& b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }

 private:
  std::int64_t extents_[abi::max_rank] = {};
  int rank_ = 0;
};

// Move-only. The bytes belong to the sample's lease (or to whoever made the block) and go back when it is destroyed.
class Array {
 public:
  Array() = default;
  explicit Array(const abi::Array& raw) : raw_(raw) {}
  Array(Array&& other) noexcept : raw_(std::exchange(other.raw_, empty())) {}
  Array& operator=(Array&& other) noexcept {
    if (this != &other) {
      reset();
      raw_ = std::exchange(other.raw_, empty());
    }
    return *this;
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { reset(); }

  // Wraps a block as an array of this shape; the block must hold at least the array's bytes.
  static Array over(abi::Block block, DType dtype, const Shape& shape, std::string_view axes = {}) {
    Array array;
    array.raw_.block = block;
    array.raw_.dtype = static_cast<std::uint8_t>(dtype);
    array.reshape(shape, axes);
    return array;
  }

  [[nodiscard]] DType dtype() const { return static_cast<DType>(raw_.dtype); }
  [[nodiscard]] int rank() const { return raw_.rank; }
  [[nodiscard]] std::int64_t extent(int axis) const { return raw_.shape[axis]; }
  [[nodiscard]] Shape shape() const {
    Shape shape;
    for (int i = 0; i < raw_.rank; ++i) shape.push_back(raw_.shape[i]);
    return shape;
  }
  [[nodiscard]] std::string_view axes() const { return {raw_.axes, static_cast<std::size_t>(raw_.axes[0] ? raw_.rank : 0)}; }
  [[nodiscard]] double rate() const { return raw_.rate; }
  void set_rate(double rate) { raw_.rate = rate; }
  [[nodiscard]] std::uint64_t bytes() const { return static_cast<std::uint64_t>(shape().elements()) * bytes_of(dtype()); }
  [[nodiscard]] std::uint64_t capacity() const { return raw_.block.bytes; }
  [[nodiscard]] bool empty_handle() const { return raw_.block.data == nullptr; }
  [[nodiscard]] std::uint8_t* data() { return static_cast<std::uint8_t*>(raw_.block.data); }
  [[nodiscard]] const std::uint8_t* data() const { return static_cast<const std::uint8_t*>(raw_.block.data); }

  // The elements as T. Throws Code::plugin when T is not the array's type.
  template <class T> [[nodiscard]] std::span<T> values() {
    check_type(DTypeOf<T>::value);
    return {reinterpret_cast<T*>(data()), static_cast<std::size_t>(shape().elements())};
  }
  template <class T> [[nodiscard]] std::span<const T> values() const {
    check_type(DTypeOf<T>::value);
    return {reinterpret_cast<const T*>(data()), static_cast<std::size_t>(shape().elements())};
  }

  // Same bytes, other extents: for a stage that crops in place or drops frames. May not grow past the block.
  void reshape(const Shape& shape, std::string_view axes = {}) {
    const auto need = static_cast<std::uint64_t>(shape.elements()) * bytes_of(dtype());
    if (need > raw_.block.bytes) throw Error(Code::plugin, "reshape to " + shape.text() + " needs more bytes than the array holds");
    raw_.rank = static_cast<std::uint8_t>(shape.rank());
    std::copy(shape.begin(), shape.end(), raw_.shape);
    if (!axes.empty()) {
      std::memset(raw_.axes, 0, sizeof raw_.axes);
      std::memcpy(raw_.axes, axes.data(), std::min(axes.size(), sizeof raw_.axes));
    }
  }

  [[nodiscard]] const abi::Array& raw() const { return raw_; }
  // Gives the block up; the caller releases it.
  [[nodiscard]] abi::Array release() { return std::exchange(raw_, empty()); }

 private:
  static constexpr abi::Array empty() {
    abi::Array raw{};
    raw.size = sizeof(abi::Array);
    raw.dtype = static_cast<std::uint8_t>(DType::u8);
    return raw;
  }
  void reset() noexcept {
    if (raw_.block.release) raw_.block.release(raw_.block.owner, raw_.block.data, raw_.block.bytes);
    raw_ = empty();
  }
  void check_type(DType wanted) const {
    if (wanted != dtype())
      throw Error(Code::plugin, "the array holds " + std::string(name_of(dtype())) + ", not " + std::string(name_of(wanted)));
  }

  abi::Array raw_ = empty();
};

// Where a stage gets the bytes of a new array: the lease of the sample it works on.
class Memory {
 public:
  explicit Memory(abi::Sample* sample) : sample_(sample) {}

  // Uninitialised bytes. Throws Code::plugin when the stage asks for more than its out() declared.
  [[nodiscard]] Array array(DType dtype, const Shape& shape, std::string_view axes = {}) const {
    abi::Failure failure{sizeof(abi::Failure), 0, {}, {}};
    abi::Block block{};
    const auto bytes = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(shape.elements()) * bytes_of(dtype));
    if (sample_->allocate(sample_->host, bytes, &block, &failure) != 0)
      throw Error(static_cast<Code>(failure.code), failure.what, failure.hint);
    return Array::over(block, dtype, shape, axes);
  }

 private:
  abi::Sample* sample_;
};

}  // namespace sluice
