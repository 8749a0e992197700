// The fused pass against the formula written out: one value at a time.
#include "framework/train/assemble.hpp"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "fakes.hpp"

using namespace sluice;
using namespace sluice::fakes;

namespace {

const InputConfig input{{0.43216, 0.394666, 0.37645}, {0.22803, 0.22145, 0.216989}, "auto"};

// out[b][c][t][h][w] = (byte / 255 - mean) / std, zero where there is no pixel.
void check_against_formula(const at::Tensor& out, const std::vector<FinishedSample>& samples) {
  const at::Tensor plain = out.contiguous();
  auto values = plain.accessor<float, 5>();
  std::int64_t wrong = 0;
  for (std::int64_t b = 0; b < plain.size(0); ++b) {
    const Array& clip = samples[static_cast<std::size_t>(b)].arrays[0].second;
    const std::uint8_t* bytes = clip.data();
    for (std::int64_t c = 0; c < plain.size(1); ++c)
      for (std::int64_t t = 0; t < plain.size(2); ++t)
        for (std::int64_t y = 0; y < plain.size(3); ++y)
          for (std::int64_t x = 0; x < plain.size(4); ++x) {
            float expected = 0;
            if (t < clip.extent(0) && y < clip.extent(1) && x < clip.extent(2)) {
              const auto byte = bytes[((t * clip.extent(1) + y) * clip.extent(2) + x) * 3 + c];
              expected = (static_cast<float>(byte) / 255.0F - static_cast<float>(input.mean[static_cast<std::size_t>(c)])) /
                         static_cast<float>(input.std[static_cast<std::size_t>(c)]);
            }
            if (values[b][c][t][y][x] != expected) ++wrong;
          }
  }
  CHECK(wrong == 0);
}

std::vector<FinishedSample> samples_of(const std::vector<Shape>& shapes) {
  std::vector<FinishedSample> out;
  for (std::size_t i = 0; i < shapes.size(); ++i)
    out.push_back(make_sample(static_cast<std::int64_t>(i), make_clip(shapes[i][0], shapes[i][1], shapes[i][2], static_cast<std::uint32_t>(i)), static_cast<std::int64_t>(i % 3)));
  return out;
}

}  // namespace

// Mistake caught: swapped axes or channels, a mean of the wrong channel, a layout that is not what the kernels want.
TEST_CASE("every pixel is where and what the formula says, in both layouts, on both paths, for any thread count") {
  const auto samples = samples_of({{5, 7, 6}, {5, 7, 6}, {5, 7, 6}});
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    for (const std::string layout : {"auto", "contiguous"})
      for (const bool on_device : {false, true}) {
        CAPTURE(layout);
        CAPTURE(on_device);
        InputConfig config = input;
        config.layout = layout;
        const Assembler assembler({clip_and_label(5, 7, 6), config, at::kCPU, on_device});
        const auto batch = assembler.assemble(samples, assembler.extents(samples));
        const at::Tensor clip = batch.inputs.get("clip");
        CHECK(clip.sizes() == at::IntArrayRef({3, 3, 5, 7, 6}));
        CHECK(clip.is_contiguous(layout == "contiguous" ? at::MemoryFormat::Contiguous : at::MemoryFormat::ChannelsLast3d));
        check_against_formula(clip, samples);
        CHECK(batch.inputs.get("label").equal(batch.host.get("label")));
        CHECK(batch.host.get("label").sizes() == at::IntArrayRef({3}));
        CHECK_FALSE(batch.host.has("clip"));
        CHECK((batch.keys == std::vector<std::uint64_t>{samples[0].key, samples[1].key, samples[2].key}));
        CHECK(batch.clips == 3);
      }
  }
  at::set_num_threads(1);
}

// Mistake caught: padding to the microbatch, which makes the result depend on how the batch is cut; or padding before normalisation.
TEST_CASE("what varies is padded with zeros to the logical batch's longest, and carries its lengths") {
  const auto samples = samples_of({{2, 4, 4}, {5, 4, 4}, {3, 4, 4}, {1, 4, 4}});
  auto streams = clip_and_label(8, 4, 4);
  streams[0].second.varying = 1;
  for (const bool on_device : {false, true}) {
    const Assembler assembler({streams, input, at::kCPU, on_device});
    const auto extents = assembler.extents(samples);
    const std::span<const FinishedSample> all = samples;
    for (const std::size_t cut : {1, 2, 4})
      for (std::size_t at = 0; at < samples.size(); at += cut) {
        const auto batch = assembler.assemble(all.subspan(at, cut), extents);
        CHECK(batch.inputs.get("clip").size(2) == 5);
        for (std::size_t i = 0; i < cut; ++i) {
          CHECK(batch.host.get("clip.lengths")[static_cast<std::int64_t>(i)].item<std::int64_t>() == samples[at + i].arrays[0].second.extent(0));
          const auto alone = assembler.assemble(all.subspan(at + i, 1), extents);
          CHECK(alone.inputs.get("clip")[0].equal(batch.inputs.get("clip")[static_cast<std::int64_t>(i)]));
        }
      }
    const auto whole = assembler.assemble(samples, extents);
    check_against_formula(whole.inputs.get("clip"), samples);
    CHECK(assembler.zeros(2, assembler.largest()).inputs.get("clip").sizes() == at::IntArrayRef({2, 3, 8, 4, 4}));
  }
}

// Mistake caught: arrays of other types and ranks stacked wrongly, or padded at the wrong end.
TEST_CASE("arrays that are no video are stacked as they are and padded along what varies") {
  Info gloss;
  gloss.dtype = DType::i32;
  gloss.shape = {4};
  gloss.varying = 1;
  Info depth;
  depth.dtype = DType::f32;
  depth.shape = {2, 3};
  std::vector<FinishedSample> samples(2);
  for (std::size_t i = 0; i < 2; ++i) {
    Array words = make_array(DType::i32, {static_cast<std::int64_t>(i) + 1});
    for (auto& word : words.values<std::int32_t>()) word = static_cast<std::int32_t>(i) + 5;
    Array plane = make_array(DType::f32, {2, 3});
    for (std::size_t k = 0; k < 6; ++k) plane.values<float>()[k] = static_cast<float>(k + 10 * i);
    samples[i].arrays.emplace_back("depth", std::move(plane));
    samples[i].arrays.emplace_back("gloss", std::move(words));
  }
  const Assembler assembler({{{"depth", depth}, {"gloss", gloss}}, {}, at::kCPU, false});
  const auto batch = assembler.assemble(samples, assembler.extents(samples));
  const at::Tensor words = batch.host.get("gloss");
  CHECK(words.scalar_type() == at::kInt);
  CHECK(words.sizes() == at::IntArrayRef({2, 2}));
  CHECK(words[0][0].item<int>() == 5);
  CHECK(words[0][1].item<int>() == 0);
  CHECK(words[1][1].item<int>() == 6);
  CHECK(batch.host.get("gloss.lengths")[1].item<int>() == 2);
  CHECK(batch.inputs.get("depth")[1][1][2].item<float>() == 15.0F);
}

// Mistake caught: trusting what a stage returned.
TEST_CASE("a stream that is missing, or not of the declared type or shape, is refused by name") {
  auto samples = samples_of({{5, 7, 6}});
  const Assembler other({clip_and_label(5, 7, 8), input, at::kCPU, false});
  CHECK_THROWS_WITH_AS(static_cast<void>(other.assemble(samples, other.largest())), doctest::Contains("stream 'clip'"), Error);
  samples[0].arrays.erase(samples[0].arrays.begin());
  const Assembler assembler({clip_and_label(5, 7, 6), input, at::kCPU, false});
  CHECK_THROWS_WITH_AS(static_cast<void>(assembler.assemble(samples, assembler.largest())), doctest::Contains("'clip'"), Error);
  CHECK_THROWS_WITH_AS((Assembler({clip_and_label(5, 7, 6), {{0.5}, {0.5}, "auto"}, at::kCPU, false})), doctest::Contains("3 channels"), Error);
}
