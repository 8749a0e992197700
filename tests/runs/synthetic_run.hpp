// A pipeline of a second on data without files, and what its run left.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tests/support/scratch_folder.hpp"
#include "tests/support/sluice_process.hpp"

namespace sluice::testing {

namespace fs = std::filesystem;

// 3 epochs of 9 steps, the last of 4 clips; random crops, mirrors and dropout, so that every random decision is in the weights.
inline const std::string synthetic_pipeline = R"([run]
name = "synthetic"
seed = 7
epochs = 3
device = "cpu"
[plugins]
path = ["@BINARY@/tests/plugins"]
[budget]
host_ram = "1GiB"
workers = 2
compute_threads = 2
[data]
plugin = "source.synthetic"
train = 68
val = 20
[[stage]]
plugin = "synthetic.clip"
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
size = 8
[model]
plugin = "model.recognizer"
input = { mean = [0.5, 0.5, 0.5], std = [0.25, 0.25, 0.25] }
backbone = { plugin = "backbone.r3d", depth = 10, width = 8 }
head = { plugin = "head.linear", dropout = 0.3 }
[loss]
plugin = "loss.cross_entropy"
[optimizer]
plugin = "optimizer.adamw"
lr = 0.003
[schedule]
plugin = "schedule.cosine"
warmup = 0.1
[[metric]]
plugin = "metric.accuracy"
[checkpoint]
every = 2
)";

inline fs::path write_pipeline(const fs::path& folder, std::string text, const std::string& name = "pipeline.toml") {
  for (auto at = text.find("@BINARY@"); at != std::string::npos; at = text.find("@BINARY@")) text.replace(at, 8, SLUICE_BINARY_DIR);
  for (auto at = text.find("@SOURCE@"); at != std::string::npos; at = text.find("@SOURCE@")) text.replace(at, 8, SLUICE_SOURCE_DIR);
  std::ofstream(folder / name) << text;
  return folder / name;
}

// The rows that say what was learnt, without times and without what is about the machine: steps and evaluations.
inline std::vector<std::string> learnt(const fs::path& run) {
  std::vector<std::string> rows;
  std::ifstream file(run / "metrics.jsonl");
  for (std::string line; std::getline(file, line);) {
    auto row = nlohmann::json::parse(line);
    if (row["kind"] != "step" && row["kind"] != "eval") continue;
    row.erase("time");
    row.erase("memory");
    rows.push_back(row.dump());
  }
  return rows;
}

// The folder of the last step that was saved; empty where none was.
inline fs::path newest_checkpoint(const fs::path& run) {
  fs::path newest;
  long best = -1;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints")) {
    const auto name = entry.path().filename().string();
    if (!name.starts_with("step-") || name.find('.') != std::string::npos) continue;
    if (const long step = std::stol(name.substr(5)); step > best) best = step, newest = entry.path();
  }
  return newest;
}

// The bytes of its weights and of its optimizer.
inline std::string last_weights(const fs::path& run) {
  const fs::path newest = newest_checkpoint(run);
  if (newest.empty()) return "no checkpoint";
  return text_of_file(newest / "model.safetensors") + text_of_file(newest / "optimizer.safetensors");
}

}  // namespace sluice::testing
