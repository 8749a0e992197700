// The fused pass reads THWC bytes and writes floats through a table of 256 values a channel: exact, whatever the compiler.
#include "framework/train/assemble.hpp"

#include <algorithm>
#include <cstring>

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <sluice/error.hpp>

namespace sluice {
namespace {

at::ScalarType torch_type(DType dtype) {
  switch (dtype) {
    case DType::u8: return at::kByte;
    case DType::i32: return at::kInt;
    case DType::i64: return at::kLong;
    case DType::f32: return at::kFloat;
    case DType::f64: return at::kDouble;
    case DType::u16: return at::kUInt16;
    case DType::f16: return at::kHalf;
  }
  throw Error(Code::plugin, "an array of an unknown type");
}

std::vector<std::int64_t> with_clips(std::int64_t clips, const Shape& extents) {
  std::vector<std::int64_t> sizes{clips};
  sizes.insert(sizes.end(), extents.begin(), extents.end());
  return sizes;
}

const Array& find_array(const FinishedSample& sample, const std::string& name) {
  for (const auto& [stream, array] : sample.arrays)
    if (stream == name) return array;
  throw Error(Code::plugin, "the sample has no array '" + name + "' at the end of its stages", "", "sample " + std::to_string(sample.index));
}

void check_array(const Array& array, const std::string& name, const Info& info, const Shape& extents) {
  bool fits = array.dtype() == info.dtype && array.rank() == extents.rank();
  for (int axis = 0; fits && axis < extents.rank(); ++axis)
    fits = info.varies(axis) ? array.extent(axis) <= extents[axis] : array.extent(axis) == extents[axis];
  if (!fits)
    throw Error(Code::plugin, "stream '" + name + "' holds " + std::string(name_of(array.dtype())) + " " + array.shape().text() + " where " +
                                  std::string(name_of(info.dtype)) + " " + extents.text() + " was declared");
}

// Copies `from` of shape `shape` into the corner of a zeroed block of shape `extents`.
void copy_padded(const std::uint8_t* from, const Shape& shape, std::uint8_t* to, const Shape& extents, std::uint64_t element, int axis = 0) {
  if (axis == shape.rank()) {
    std::memcpy(to, from, element);
    return;
  }
  std::uint64_t from_step = element, to_step = element;
  for (int i = axis + 1; i < shape.rank(); ++i) {
    from_step *= static_cast<std::uint64_t>(shape[i]);
    to_step *= static_cast<std::uint64_t>(extents[i]);
  }
  if (from_step == to_step) {
    std::memcpy(to, from, from_step * static_cast<std::uint64_t>(shape[axis]));
    return;
  }
  for (std::int64_t i = 0; i < shape[axis]; ++i)
    copy_padded(from + static_cast<std::uint64_t>(i) * from_step, shape, to + static_cast<std::uint64_t>(i) * to_step, extents, element, axis + 1);
}

at::Tensor stack(std::span<const Array* const> arrays, const Info& info, const Shape& extents) {
  at::Tensor out = at::zeros(with_clips(static_cast<std::int64_t>(arrays.size()), extents), torch_type(info.dtype));
  const std::uint64_t place = static_cast<std::uint64_t>(extents.elements()) * bytes_of(info.dtype);
  auto* to = static_cast<std::uint8_t*>(out.data_ptr());
  for (std::size_t i = 0; i < arrays.size() && place != 0; ++i)
    if (arrays[i]->bytes() != 0) copy_padded(arrays[i]->data(), arrays[i]->shape(), to + i * place, extents, bytes_of(info.dtype));
  return out;
}

// One row of W pixels to channels-last floats.
void row_channels_last(const std::uint8_t* from, float* to, std::int64_t width, std::int64_t channels, const float* table) {
  if (channels == 3) {
    for (std::int64_t x = 0; x < width; ++x, from += 3, to += 3) {
      to[0] = table[from[0]];
      to[1] = table[256 + from[1]];
      to[2] = table[512 + from[2]];
    }
    return;
  }
  for (std::int64_t x = 0; x < width; ++x)
    for (std::int64_t c = 0; c < channels; ++c) *to++ = table[c * 256 + *from++];
}

}  // namespace

Assembler::Assembler(Options options) : device_(options.device), on_device_(options.on_device || !options.device.is_cpu()),
      channels_last_(options.input.layout != "contiguous") {
  for (auto& [name, info] : options.streams) {
    if (info.text) continue;
    Stream stream{name, info, info.dtype == DType::u8 && info.axes == "THWC" && info.shape.rank() == 4, info.shape.rank() > 0 && info.varies(0), {}, {}, {}};
    if (stream.video) {
      const auto channels = static_cast<std::size_t>(info.shape[3]);
      const auto fill = [&](const std::vector<double>& given, double otherwise, const char* key) {
        if (!given.empty() && given.size() != channels)
          throw Error(Code::configuration, std::string("model.input.") + key + " has " + std::to_string(given.size()) + " values, the stream '" + name +
                                               "' has " + std::to_string(channels) + " channels");
        std::vector<float> values(channels, static_cast<float>(otherwise));
        for (std::size_t c = 0; c < given.size(); ++c) values[c] = static_cast<float>(given[c]);
        return values;
      };
      stream.mean = fill(options.input.mean, 0, "mean");
      stream.deviation = fill(options.input.std, 1, "std");
      for (std::size_t c = 0; c < channels; ++c)
        for (int v = 0; v < 256; ++v) stream.table.push_back((static_cast<float>(v) / 255.0F - stream.mean[c]) / stream.deviation[c]);
    }
    streams_.push_back(std::move(stream));
  }
}

Assembler::Extents Assembler::largest() const {
  Extents all;
  for (const auto& stream : streams_) all.push_back(stream.info.shape);
  return all;
}

Assembler::Extents Assembler::with_frames(std::int64_t frames) const {
  Extents all = largest();
  for (std::size_t s = 0; s < streams_.size(); ++s)
    if (streams_[s].video) all[s][0] = frames;
  return all;
}

Assembler::Extents Assembler::extents(std::span<const FinishedSample> logical_batch) const {
  Extents all = largest();
  for (std::size_t s = 0; s < streams_.size(); ++s)
    for (int axis = 0; axis < all[s].rank(); ++axis) {
      if (!streams_[s].info.varies(axis)) continue;
      all[s][axis] = 0;
      for (const auto& sample : logical_batch) {
        const Array& array = find_array(sample, streams_[s].name);
        if (axis < array.rank()) all[s][axis] = std::max(all[s][axis], array.extent(axis));
      }
    }
  return all;
}

at::Tensor Assembler::video(const Stream& stream, std::span<const Array* const> arrays, const Shape& extents) const {
  const std::int64_t clips = static_cast<std::int64_t>(arrays.size());
  const std::int64_t frames = extents[0], height = extents[1], width = extents[2], channels = extents[3];
  at::Tensor out = at::empty({clips, channels, frames, height, width},
                             at::TensorOptions(at::kFloat).memory_format(channels_last_ ? at::MemoryFormat::ChannelsLast3d : at::MemoryFormat::Contiguous));
  auto* const base = out.mutable_data_ptr<float>();
  const float* const table = stream.table.data();
  at::parallel_for(0, clips * frames, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      const Array& array = *arrays[static_cast<std::size_t>(n / frames)];
      const std::int64_t t = n % frames;
      const bool frame_there = t < array.extent(0);
      const std::int64_t rows = frame_there ? array.extent(1) : 0, columns = frame_there ? array.extent(2) : 0;
      const std::uint8_t* from = array.data() + t * rows * columns * channels;
      if (channels_last_) {
        float* to = base + n * height * width * channels;
        for (std::int64_t y = 0; y < height; ++y, to += width * channels) {
          const std::int64_t there = y < rows ? columns : 0;
          row_channels_last(from + y * columns * channels, to, there, channels, table);
          std::fill(to + there * channels, to + width * channels, 0.0F);
        }
        continue;
      }
      for (std::int64_t c = 0; c < channels; ++c) {
        float* to = base + (((n / frames) * channels + c) * frames + t) * height * width;
        for (std::int64_t y = 0; y < height; ++y, to += width) {
          const std::int64_t there = y < rows ? columns : 0;
          for (std::int64_t x = 0; x < there; ++x) to[x] = table[c * 256 + from[(y * columns + x) * channels + c]];
          std::fill(to + there, to + width, 0.0F);
        }
      }
    }
  });
  return out;
}

at::Tensor Assembler::video_on_device(const Stream& stream, std::span<const Array* const> arrays, const Shape& extents) const {
  const at::Tensor bytes = stack(arrays, stream.info, extents).to(device_);
  at::Tensor values = bytes.to(at::kFloat).div_(255.0F);
  values.sub_(at::tensor(stream.mean).to(device_)).div_(at::tensor(stream.deviation).to(device_));
  // What was padded is zero after normalisation, not before.
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    at::Tensor clip = values[static_cast<std::int64_t>(i)];
    for (int axis = 0; axis < 3; ++axis)
      if (const auto there = arrays[i]->extent(axis); there < extents[axis]) clip.narrow(axis, there, extents[axis] - there).zero_();
  }
  values = values.permute({0, 4, 1, 2, 3});
  return channels_last_ ? values : values.contiguous();
}

Microbatch Assembler::from_tensors(std::vector<std::pair<const Stream*, at::Tensor>> made, std::vector<at::Tensor> lengths) const {
  Microbatch out;
  for (std::size_t i = 0; i < made.size(); ++i) {
    const auto& [stream, tensor] = made[i];
    out.inputs.set(stream->name, tensor.to(device_));
    if (!stream->video) out.host.set(stream->name, tensor);
    if (!stream->has_lengths) continue;
    out.inputs.set(stream->name + ".lengths", lengths[i].to(device_));
    out.host.set(stream->name + ".lengths", lengths[i]);
  }
  return out;
}

Microbatch Assembler::assemble(std::span<const FinishedSample> samples, const Extents& extents) const {
  std::vector<std::pair<const Stream*, at::Tensor>> made;
  std::vector<at::Tensor> lengths(streams_.size());
  for (std::size_t s = 0; s < streams_.size(); ++s) {
    const Stream& stream = streams_[s];
    std::vector<const Array*> arrays;
    std::vector<std::int64_t> own;
    for (const auto& sample : samples) {
      arrays.push_back(&find_array(sample, stream.name));
      check_array(*arrays.back(), stream.name, stream.info, extents[s]);
      if (stream.has_lengths) own.push_back(arrays.back()->extent(0));
    }
    if (stream.has_lengths) lengths[s] = at::tensor(own, at::kLong);
    made.emplace_back(&stream, !stream.video   ? stack(arrays, stream.info, extents[s])
                               : on_device_ ? video_on_device(stream, arrays, extents[s])
                                            : video(stream, arrays, extents[s]));
  }
  Microbatch out = from_tensors(std::move(made), std::move(lengths));
  for (const auto& sample : samples) out.keys.push_back(sample.key);
  out.clips = static_cast<std::int64_t>(samples.size());
  return out;
}

Microbatch Assembler::zeros(std::int64_t clips, const Extents& extents) const {
  std::vector<std::pair<const Stream*, at::Tensor>> made;
  std::vector<at::Tensor> lengths(streams_.size());
  for (std::size_t s = 0; s < streams_.size(); ++s) {
    const Shape& shape = extents[s];
    if (streams_[s].video) {
      const auto format = channels_last_ ? at::MemoryFormat::ChannelsLast3d : at::MemoryFormat::Contiguous;
      made.emplace_back(&streams_[s], at::empty({clips, shape[3], shape[0], shape[1], shape[2]}, at::TensorOptions(at::kFloat).device(device_).memory_format(format)).zero_());
    } else {
      made.emplace_back(&streams_[s], at::zeros(with_clips(clips, shape), torch_type(streams_[s].info.dtype)));
    }
    if (streams_[s].has_lengths) lengths[s] = at::zeros({clips}, at::kLong).fill_(shape[0]);
  }
  Microbatch out = from_tensors(std::move(made), std::move(lengths));
  for (std::int64_t i = 0; i < clips; ++i) out.keys.push_back(static_cast<std::uint64_t>(i));
  out.clips = clips;
  return out;
}

}  // namespace sluice
