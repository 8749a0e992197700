// A small model of long videos, and clips cut into chunks as the feed would hand them over.
#pragma once

#include <cstring>

#include <ATen/ops/arange.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/rand_like.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tanh.h>

#include "fakes.hpp"
#include "framework/train/long_clip.hpp"

namespace sluice::fakes {

struct LongKind {
  at::ScalarType type = at::kDouble;
  std::int64_t declared = 2;  // the radius that it says it has
  std::int64_t stride = 1;
  double dropout = 0;
  bool norm_over_time = false, counts_time = false, bare_random = false, moves = false;
};

// Two 3x3x3 convolutions (radius 2), mean over space; head: a convolution along time, attention over all of it, a matrix.
class LongModel final : public Model {
 public:
  LongModel(std::int64_t classes, LongKind kind) : kind_(kind) {
    at::manual_seed(5);
    const auto make = [&](std::vector<std::int64_t> sizes) { return at::randn(sizes, at::kDouble).mul_(0.3).to(kind.type).set_requires_grad(true); };
    first_ = make({4, 3, 3, 3, 3});
    second_ = make({5, 4, 3, 3, 3});
    bias_ = make({5});
    along_ = make({6, 5, 5});
    score_ = make({1, 6, 1});
    fc_ = make({classes, 6});
    moved_ = at::zeros({1});
  }
  std::vector<NamedTensor> weights() override {
    return {{"first", first_}, {"second", second_}, {"bias", bias_}, {"along", along_}, {"score", score_}, {"fc", fc_}};
  }
  std::vector<NamedTensor> statistics() override { return {{"moved", moved_}}; }
  void set_training(bool) override {}
  void move_to(at::Device) override {}
  std::int64_t batch_norms(bool) override { return 0; }

  std::optional<std::int64_t> temporal_radius() const override { return kind_.declared; }
  std::int64_t temporal_stride() const override { return kind_.stride; }
  at::Tensor encode(const Inputs& chunk, Pass& pass) override {
    at::Tensor x = chunk.get("clip").to(kind_.type);
    x = pass.segment("first", [w = first_](const at::Tensor& in) { return at::conv3d(in, w, {}, 1, 1).tanh(); }, x);
    x = pass.dropout(x, kind_.dropout);
    if (kind_.norm_over_time) x = at::group_norm(x, 2);
    if (kind_.bare_random) x = x + at::rand_like(x);
    if (kind_.moves) moved_.add_(1);
    x = at::conv3d(x, second_, bias_, {kind_.stride, 1, 1}, 1).tanh().mean({3, 4});
    if (kind_.counts_time) x = x + at::arange(x.size(2), x.options());
    return x;
  }
  Outputs head(const at::Tensor& features, const Inputs&, Pass& pass) override {
    const at::Tensor h = pass.dropout(at::conv1d(features, along_, {}, 1, 2).tanh(), kind_.dropout);
    const at::Tensor share = at::softmax(at::conv1d(h, score_) * 4, 2);
    Outputs out;
    out.set("logits", at::linear((h * share).sum(2), fc_));
    return out;
  }

 private:
  LongKind kind_;
  at::Tensor first_, second_, bias_, along_, score_, fc_, moved_;
};

inline std::vector<std::pair<std::string, Info>> chunk_and_label(std::int64_t frames, std::int64_t height, std::int64_t width) {
  auto streams = clip_and_label(frames, height, width);
  streams[0].second.varying = 1;
  return streams;
}

inline Assembler make_assembler(std::int64_t frames, std::int64_t size) {
  return Assembler({chunk_and_label(frames, size, size), {{0.5, 0.5, 0.5}, {0.25, 0.25, 0.25}, "auto"}, at::kCPU, false});
}

inline Array copy_frames(const Array& clip, std::int64_t first, std::int64_t last) {
  Array out = make_array(DType::u8, {last - first, clip.extent(1), clip.extent(2), clip.extent(3)}, "THWC");
  const auto bytes = clip.bytes() / static_cast<std::uint64_t>(clip.extent(0));
  std::memcpy(out.data(), clip.data() + static_cast<std::uint64_t>(first) * bytes, out.bytes());
  return out;
}

struct FakeClip {
  std::int64_t index = 0;
  std::int64_t frames = 64;
  std::int64_t label = 1;
  std::int64_t size = 6;
  int fails_at = -1;  // chunk, counted over both passes
  [[nodiscard]] Array array() const { return make_clip(frames, size, size, static_cast<std::uint32_t>(index) + 9); }
  [[nodiscard]] FinishedSample whole() const { return make_sample(index, array(), label); }
};

// The pieces of a batch of clips one after the other, as the feed makes them, to `take`.
template <class Take> void in_chunks(const std::vector<FakeClip>& clips, const Chunking& chunking, int passes, const Take& take) {
  for (std::size_t c = 0; c < clips.size(); ++c) {
    const Array frames = clips[c].array();
    const auto count = chunks_of(clips[c].frames, chunking);
    bool dropped = false;
    for (int pass = 0; pass < passes; ++pass)
      for (std::int64_t i = 0; i < count; ++i) {
        Batch piece;
        piece.chunk = chunk_at(clips[c].frames, chunking, i);
        piece.chunk->pass = static_cast<ChunkPass>(pass);
        piece.chunk->ends_clip = pass == passes - 1 && piece.chunk->ends_pass;
        piece.chunk->ends_batch = piece.chunk->ends_clip && c + 1 == clips.size();
        if (pass * count + i == clips[c].fails_at) {
          dropped = true;
          piece.failed.push_back({"here", "it was to", clips[c].index});
        } else if (!dropped) {
          piece.samples.push_back(make_sample(clips[c].index, copy_frames(frames, piece.chunk->first, piece.chunk->last), clips[c].label));
        }
        take(piece);
      }
  }
}

}  // namespace sluice::fakes
