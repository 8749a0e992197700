// Runs the first k stages of a pipeline, for every k, over the same samples, and draws what comes out.
#include "framework/app/sheet.hpp"

#include <algorithm>
#include <limits>
#include <cmath>
#include <optional>

#include <fmt/format.h>

#include "framework/app/canvas.hpp"
#include "framework/app/open_data.hpp"
#include "framework/base/strings.hpp"
#include "framework/config/toml.hpp"
#include "framework/flow/feed.hpp"

namespace sluice::app {
namespace {

constexpr int margin = 12, gap = 4, title = 2 * 7 + 8, subtitle = 7 + 6;
constexpr Colour paper{250, 250, 248}, ink{30, 30, 30}, faint{120, 120, 120};
constexpr int widest = 12000, tallest = 30000;

// Frames ready to be drawn.
struct Strip {
  std::string caption;
  std::vector<std::vector<std::uint8_t>> frames;
  int height = 0, width = 0, channels = 3;
};
struct Block {
  std::string title;
  std::vector<Strip> strips;
};

template <class T> std::vector<std::uint8_t> stretched(std::span<const T> values, double low, double high) {
  std::vector<std::uint8_t> out(values.size());
  const double scale = high > low ? 255 / (high - low) : 0;
  for (std::size_t i = 0; i < values.size(); ++i) out[i] = static_cast<std::uint8_t>(std::clamp((static_cast<double>(values[i]) - low) * scale, 0.0, 255.0));
  return out;
}

// Bytes as they are; other types stretched from their least to their greatest value.
std::vector<std::uint8_t> as_bytes(const Array& array, std::string& caption) {
  const auto convert = [&]<class T>(std::span<const T> values) {
    double low = std::numeric_limits<double>::max(), high = std::numeric_limits<double>::lowest();
    for (const T value : values)
      if (std::isfinite(static_cast<double>(value))) low = std::min(low, static_cast<double>(value)), high = std::max(high, static_cast<double>(value));
    caption += fmt::format("  shown from {:g} to {:g}", low, high);
    return stretched(values, low, high);
  };
  switch (array.dtype()) {
    case DType::u8: return {array.data(), array.data() + array.bytes()};
    case DType::u16: return convert(array.values<std::uint16_t>());
    case DType::i32: return convert(array.values<std::int32_t>());
    case DType::i64: return convert(array.values<std::int64_t>());
    case DType::f32: return convert(array.values<float>());
    case DType::f64: return convert(array.values<double>());
    case DType::f16: break;
  }
  return {};
}

std::string axes_text(const Array& array) {
  std::string out = fmt::format("{} [", name_of(array.dtype()));
  for (int i = 0; i < array.rank(); ++i) {
    const auto axes = array.axes();
    out += fmt::format("{}{}{}", i ? ", " : "", static_cast<std::size_t>(i) < axes.size() ? fmt::format("{} ", axes[static_cast<std::size_t>(i)]) : "", array.extent(i));
  }
  return out + "]";
}

// A stream as a strip, when it can be seen: T x H x W x C with 1 or 3 channels, T x H x W, or H x W x 3.
std::optional<Strip> strip_of(const std::string& stage, const std::string& stream, const Array& array, int most_frames) {
  Strip strip;
  std::int64_t frames = 1;
  const int rank = array.rank();
  if (rank == 4 && (array.extent(3) == 1 || array.extent(3) == 3)) frames = array.extent(0), strip.height = static_cast<int>(array.extent(1)), strip.width = static_cast<int>(array.extent(2)), strip.channels = static_cast<int>(array.extent(3));
  else if (rank == 3 && array.extent(2) == 3) strip.height = static_cast<int>(array.extent(0)), strip.width = static_cast<int>(array.extent(1));
  else if (rank == 3) frames = array.extent(0), strip.height = static_cast<int>(array.extent(1)), strip.width = static_cast<int>(array.extent(2)), strip.channels = 1;
  else return std::nullopt;
  if (frames < 1 || strip.height < 1 || strip.width < 1) return std::nullopt;

  strip.caption = fmt::format("{}  {}  {}", stage, stream, axes_text(array));
  if (array.rate() > 0 && frames > 1) strip.caption += fmt::format("  of {:g} frames/s", array.rate());
  const std::vector<std::uint8_t> bytes = as_bytes(array, strip.caption);
  if (bytes.empty()) return std::nullopt;
  const auto each = static_cast<std::size_t>(strip.height) * static_cast<std::size_t>(strip.width) * static_cast<std::size_t>(strip.channels);
  const auto shown = std::min<std::int64_t>(frames, most_frames);
  if (shown < frames) strip.caption += fmt::format("  {} of {} frames", shown, frames);
  for (std::int64_t i = 0; i < shown; ++i) {
    const std::int64_t t = shown == 1 ? 0 : (i * (frames - 1) + (shown - 1) / 2) / (shown - 1);
    const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(t) * each);
    strip.frames.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(each));
  }
  return strip;
}

// The sample as it is behind the last stage of `pipeline`.
FinishedSample run_sample(OpenData& data, const Pipeline& pipeline, const SheetRequest& request, std::int64_t sample) {
  const std::uint64_t all = no_cap;
  Ledger ledger(std::max<std::uint64_t>(1, sample_bounds(*data.dataset, data.stages, request.split, all).smallest_all));
  Feed::Options options;
  options.in_flight = 1;
  options.batches_ahead = 1;
  options.seed = static_cast<std::uint64_t>(pipeline.run.seed.value);
  options.shuffle = false;
  const auto kind = request.split == Split::train ? Phase::Kind::train : Phase::Kind::eval;
  Feed feed(*data.dataset, data.stages, ledger, options, [&](std::uint64_t n) -> std::optional<Phase> {
    if (n > 0) return std::nullopt;
    return Phase{kind, request.epoch, sample};
  });
  std::optional<Batch> batch = feed.next();
  if (batch && !batch->failed.empty()) throw Error(Code::data, batch->failed[0].why, {}, batch->failed[0].where);
  if (!batch || batch->samples.empty()) throw Error(Code::data, fmt::format("sample {} gave nothing", sample));
  // The sample outlives feed and ledger here: its arrays are copied into memory of their own.
  FinishedSample out;
  out.index = batch->samples[0].index;
  for (auto& [name, array] : batch->samples[0].arrays) {
    abi::Block block{};
    block.bytes = std::max<std::uint64_t>(1, array.bytes());
    block.data = ::operator new(block.bytes);
    block.release = [](void*, void* bytes, std::uint64_t) { ::operator delete(bytes); };
    std::copy_n(array.data(), array.bytes(), static_cast<std::uint8_t*>(block.data));
    Array copy = Array::over(block, array.dtype(), array.shape(), array.axes());
    copy.set_rate(array.rate());
    out.arrays.emplace_back(name, std::move(copy));
  }
  return out;
}

// Empty for a sample without a class.
std::string class_text(const Dataset& dataset, std::int64_t label) {
  const auto& classes = dataset.classes();
  if (label < 0) return {};
  return static_cast<std::size_t>(label) < classes.size() ? classes[static_cast<std::size_t>(label)] : std::to_string(label);
}

// The class that the sample has by then: a mirror with a label map may have changed it.
std::string label_text(const FinishedSample& sample, const Dataset& dataset) {
  for (const auto& [name, array] : sample.arrays)
    if (name == "label" && array.dtype() == DType::i64 && array.shape().elements() == 1) return class_text(dataset, array.values<std::int64_t>()[0]);
  return {};
}

std::vector<std::string> written_by(const StageConfig& stage, const abi::Manifest& manifest) {
  std::vector<std::string> names;
  for (const auto& name : split(manifest.writes, ',')) {
    if (name == "*") names.insert(names.end(), stage.on.begin(), stage.on.end());
    else names.push_back(name);
  }
  return names;
}

std::string title_of(const OpenData& data, const SheetRequest& request, std::int64_t sample) {
  std::string text = fmt::format("sample {} of {}", sample, request.split == Split::train ? "train" : "val");
  if (const auto label = class_text(*data.dataset, data.dataset->label(request.split, sample)); !label.empty()) text += ": " + label;
  for (const auto& [name, value] : data.dataset->texts(request.split, sample))
    if (value.find('/') != std::string::npos) return text + "  " + value.substr(value.rfind('/') + 1);
  return text;
}

std::vector<std::int64_t> samples_of(const SheetRequest& request, std::int64_t n) {
  const std::string split = request.split == Split::train ? "train" : "val";
  if (n == 0) throw Error(Code::data, fmt::format("the split {} is empty", split), "show the other one: --split");
  if (request.samples.empty()) {
    if (n <= 3) return n == 1 ? std::vector<std::int64_t>{0} : n == 2 ? std::vector<std::int64_t>{0, 1} : std::vector<std::int64_t>{0, 1, 2};
    return {0, n / 2, n - 1};
  }
  for (const auto sample : request.samples)
    if (sample < 0 || sample >= n) throw Error(Code::configuration, fmt::format("there is no sample {}: {} has {}", sample, split, counted(static_cast<std::uint64_t>(n), "sample")), "they count from 0");
  return request.samples;
}

int cell_width(const Strip& strip, int height) { return std::clamp(static_cast<int>(std::lround(static_cast<double>(strip.width) / strip.height * height)), 1, 4 * height); }

Canvas arranged(const std::vector<Block>& blocks, const std::string& last_line, int cell) {
  std::int64_t height = margin, width = Canvas::text_width(last_line, 1) + 2 * margin;
  for (const Block& block : blocks) {
    height += title;
    width = std::max<std::int64_t>(width, 2 * margin + Canvas::text_width(block.title, 2));
    for (const Strip& strip : block.strips) {
      height += subtitle + cell + 2 * gap;
      width = std::max<std::int64_t>({width, 2 * margin + Canvas::text_width(strip.caption, 1), 2 * margin + static_cast<std::int64_t>(strip.frames.size()) * (cell_width(strip, cell) + gap)});
    }
    height += margin;
  }
  height += last_line.empty() ? 0 : subtitle;
  if (height > tallest || width > widest) throw Error(Code::configuration, fmt::format("the picture would have {} x {} pixels", width, height), "show fewer samples or frames, or lower --height");

  Canvas canvas(static_cast<int>(height), static_cast<int>(width), paper);
  int y = margin;
  for (const Block& block : blocks) {
    canvas.text(block.title, y, margin, 2, ink);
    y += title;
    for (const Strip& strip : block.strips) {
      canvas.text(strip.caption, y, margin, 1, faint);
      y += subtitle;
      int x = margin;
      for (const auto& frame : strip.frames) {
        canvas.draw({frame.data(), strip.height, strip.width, strip.channels}, y, x, cell, cell_width(strip, cell));
        x += cell_width(strip, cell) + gap;
      }
      y += cell + 2 * gap;
    }
    y += margin;
  }
  canvas.text(last_line, y, margin, 1, faint);
  return canvas;
}

// How frames are chosen, which says how fast the clip runs.
std::string frames_line(const Loaded& loaded) {
  std::string out;
  for (const StageConfig& stage : loaded.pipeline.stages) {
    if (loaded.registry.manifest(stage.plugin.plugin)->kind != static_cast<std::uint32_t>(abi::Kind::frames)) continue;
    out += stage.name;
    for (const auto& member : stage.plugin.settings) out += fmt::format("  {} = {}", member.key, toml_text(member.value));
    out += "   ";
  }
  return out;
}

std::string model_line(const Pipeline& pipeline) {
  const InputConfig& input = pipeline.model.input;
  if (input.mean.empty() && input.std.empty()) return "to the model: float32, x / 255";
  return fmt::format("to the model: float32, (x / 255 - [{:g}]) / [{:g}]", fmt::join(input.mean, ", "), fmt::join(input.std, ", "));
}

}  // namespace

void draw_sheet(Loaded& loaded, const SheetRequest& request) {
  if (request.out.extension() != ".png") throw Error(Code::configuration, fmt::format("{} is no name of a PNG file", in_quotes(request.out.string())), "write --out sheet.png");
  const Pipeline& whole = loaded.pipeline;
  std::vector<Block> blocks;
  std::vector<std::int64_t> samples;
  Pipeline prefix = whole;
  prefix.stages.clear();
  // Before the decoder there is nothing to see; without one, the first stage draws.
  bool decoded = std::none_of(whole.stages.begin(), whole.stages.end(), [&](const StageConfig& stage) {
    return loaded.registry.manifest(stage.plugin.plugin)->kind == static_cast<std::uint32_t>(abi::Kind::decoder);
  });
  for (const StageConfig& stage : whole.stages) {
    prefix.stages.push_back(stage);
    const abi::Manifest& manifest = *loaded.registry.manifest(stage.plugin.plugin);
    decoded = decoded || manifest.kind == static_cast<std::uint32_t>(abi::Kind::decoder);
    const bool runs = stage.only.empty() || stage.only == (request.split == Split::train ? "train" : "eval");
    if (!decoded || !runs || manifest.kind == static_cast<std::uint32_t>(abi::Kind::frames)) continue;
    OpenData data = open_data(loaded.registry, prefix);
    if (blocks.empty()) {
      samples = samples_of(request, data.dataset->samples(request.split));
      for (const auto sample : samples) blocks.push_back({title_of(data, request, sample), {}});
    }
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const FinishedSample sample = run_sample(data, whole, request, samples[i]);
      for (const auto& stream : written_by(stage, manifest))
        for (const auto& [name, array] : sample.arrays)
          if (name == stream)
            if (auto strip = strip_of(stage.name, name, array, request.frames)) {
              if (const auto label = label_text(sample, *data.dataset); !label.empty()) strip->caption += "  label " + label;
              blocks[i].strips.push_back(std::move(*strip));
            }
    }
  }
  if (blocks.empty()) throw Error(Code::configuration, "no stage of this pipeline makes anything to see", "add [[stage]] plugin = \"decode.ffmpeg\"");
  const bool has_model = !whole.model.plugin.plugin.empty();
  const Canvas canvas = arranged(blocks, frames_line(loaded) + (has_model ? model_line(whole) : ""), request.height);
  canvas.write_png(request.out);
  fmt::print("{}: {} x {} pixels, {}, {} behind {}\n", request.out.string(), canvas.width(), canvas.height(), counted(samples.size(), "sample"),
             counted(blocks[0].strips.size(), "row"), counted(whole.stages.size(), "stage"));
}

}  // namespace sluice::app
