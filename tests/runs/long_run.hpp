// A pipeline of long videos in chunks, its run, and what the run left.
#pragma once

#include <doctest/doctest.h>

#include <cstring>
#include <map>

#include "tests/runs/synthetic_run.hpp"

namespace sluice::testing {

inline const std::string long_pipeline = R"([run]
name = "long"
seed = 7
epochs = 2
device = "cpu"
max_failures = 3
[budget]
host_ram = "1GiB"
workers = 2
compute_threads = 2
[data]
plugin = "source.order6"
root = "order6"
train = 10
val = 4
frames = 200
[[stage]]
plugin = "frames.all"
[[stage]]
plugin = "decode.ffmpeg"
[[stage]]
plugin = "augment.random_crop"
only = "train"
size = [24, 24]
[[stage]]
plugin = "augment.center_crop"
only = "eval"
size = [24, 24]
[[stage]]
plugin = "augment.color_jitter"
only = "train"
brightness = 0.3
[batch]
size = 4
[model]
plugin = "model.long_recognizer"
width = 6
layers = 2
input = { mean = [0.5, 0.5, 0.5], std = [0.25, 0.25, 0.25] }
[loss]
plugin = "loss.cross_entropy"
[optimizer]
plugin = "optimizer.adamw"
lr = 0.003
[[metric]]
plugin = "metric.accuracy"
[checkpoint]
every = 1
)";

// Every tensor of a checkpoint's weights, by name.
inline std::map<std::string, std::vector<float>> tensors_of(const fs::path& run) {
  const std::string bytes = text_of_file(newest_checkpoint(run) / "model.safetensors");
  std::uint64_t header = 0;
  REQUIRE(bytes.size() > sizeof header);
  std::memcpy(&header, bytes.data(), sizeof header);
  std::map<std::string, std::vector<float>> all;
  const auto entries = nlohmann::json::parse(bytes.substr(sizeof header, header));
  for (const auto& [name, entry] : entries.items()) {
    if (name == "__metadata__") continue;
    REQUIRE(entry["dtype"] == "F32");
    const auto begin = entry["data_offsets"][0].get<std::size_t>(), end = entry["data_offsets"][1].get<std::size_t>();
    auto& values = all[name];
    values.resize((end - begin) / sizeof(float));
    std::memcpy(values.data(), bytes.data() + sizeof header + header + begin, end - begin);
  }
  return all;
}

struct Result {
  Finished finished;
  fs::path run;
  std::string weights;
  std::map<std::string, std::vector<float>> tensors;
  std::vector<std::string> rows;
};

inline Result train_long(const ScratchFolder& folder, const std::vector<std::string>& overrides, bool must_work = true, const std::string& text = long_pipeline) {
  static int count = 0;
  const auto run = folder.path() / ("run" + std::to_string(++count));
  std::vector<std::string> arguments = {"train", write_pipeline(folder.path(), text), "run.dir=" + run.string()};
  arguments.insert(arguments.end(), overrides.begin(), overrides.end());
  Result result;
  result.run = run;
  result.finished = run_sluice(arguments, folder.path(), 300);
  INFO(result.finished.err);
  if (must_work) REQUIRE(result.finished.code == 0);
  if (result.finished.code == 0) result.weights = last_weights(run), result.tensors = tensors_of(run), result.rows = learnt(run);
  return result;
}

inline bool says(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

inline double last_loss(const Result& result) {
  for (auto row = result.rows.rbegin(); row != result.rows.rend(); ++row)
    if (const auto json = nlohmann::json::parse(*row); json["kind"] == "step") return json["loss"].get<double>();
  return -1;
}

// The largest difference of two runs' weights, as a share of the largest weight of its tensor.
inline double weights_apart(const Result& a, const Result& b) {
  REQUIRE(a.tensors.size() == b.tensors.size());
  double most = 0;
  for (const auto& [name, values] : a.tensors) {
    const auto& others = b.tensors.at(name);
    REQUIRE(others.size() == values.size());
    double largest = 1e-30, apart = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      largest = std::max(largest, std::abs(static_cast<double>(values[i])));
      apart = std::max(apart, std::abs(static_cast<double>(values[i]) - static_cast<double>(others[i])));
    }
    most = std::max(most, apart / largest);
  }
  return most;
}

}  // namespace sluice::testing
