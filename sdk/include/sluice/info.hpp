// Info: what is known about a stream before it exists. Folded over the stages it gives the bytes of a sample.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include <sluice/array.hpp>

namespace sluice {

struct Info {
  DType dtype = DType::u8;
  Shape shape;               // the largest that may come
  std::string axes;          // e.g. THWC
  double rate = 0;           // frames a second along T
  std::uint8_t varying = 0;  // bit i: extent i differs from sample to sample
  bool text = false;         // a string, not an array
  std::uint64_t scratch = 0; // bytes that the stage needs while it runs, beside what it reads and writes

  [[nodiscard]] std::uint64_t bytes() const { return text ? 0 : static_cast<std::uint64_t>(shape.elements()) * bytes_of(dtype); }
  [[nodiscard]] bool varies(int axis) const { return (varying >> axis) & 1u; }

  // A video of up to this size.
  static Info video(std::int64_t frames, std::int64_t height, std::int64_t width, double rate = 0) {
    Info info;
    info.shape = {frames, height, width, 3};
    info.axes = "THWC";
    info.rate = rate;
    return info;
  }

  [[nodiscard]] abi::Info raw() const {
    abi::Info out{};
    out.size = sizeof(abi::Info);
    out.dtype = static_cast<std::uint8_t>(dtype);
    out.rank = static_cast<std::uint8_t>(shape.rank());
    out.text = text ? 1 : 0;
    out.varying = varying;
    std::copy(shape.begin(), shape.end(), out.shape);
    std::memcpy(out.axes, axes.data(), std::min(axes.size(), sizeof out.axes));
    out.rate = rate;
    out.scratch = scratch;
    return out;
  }
  static Info from(const abi::Info& raw) {
    Info info;
    info.dtype = static_cast<DType>(raw.dtype);
    for (int i = 0; i < raw.rank; ++i) info.shape.push_back(raw.shape[i]);
    info.axes.assign(raw.axes, raw.axes[0] ? raw.rank : 0);
    info.rate = raw.rate;
    info.varying = raw.varying;
    info.text = raw.text != 0;
    info.scratch = raw.scratch;
    return info;
  }
};

}  // namespace sluice
