// A pipeline file as plain structs: every key checked, every default filled in, every value with its place.
// Made by load_pipeline(); nothing here has loaded a plugin.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "framework/config/value.hpp"

namespace sluice {

// One plugin of the pipeline with its own keys, checked against its manifest. Paths are absolute already.
struct PluginConfig {
  std::string plugin;  // e.g. "augment.hflip"
  Place place;         // of the `plugin` key
  Table settings;      // without the host's keys; nested plugin tables stay tables with a `plugin` member
};

struct StageConfig {
  PluginConfig plugin;
  std::vector<std::string> on = {"clip"};
  std::string only;          // "", "train" or "eval"
  bool independent = false;  // a random decision for each stream of `on`
  std::string name;          // plugin name and occurrence, e.g. "augment.hflip" or "augment.hflip#2": the random key
};

enum class Precision { fp32, bf16, fp16 };

struct RunConfig {
  Placed<std::string> name;
  Placed<std::filesystem::path> dir;  // absolute; default runs/<name> beside the working directory
  Placed<std::int64_t> seed{0};
  Placed<std::int64_t> epochs{0};  // exactly one of epochs and steps is > 0
  Placed<std::int64_t> steps{0};
  Placed<std::string> device{"auto"};  // auto, cpu, cuda:N
  Placed<Precision> precision{Precision::fp32};
  Placed<bool> deterministic{false};
  Placed<double> max_failures{0.01};  // < 1: share of the samples of an epoch; >= 1: a number
  Placed<double> watchdog{300};       // seconds without progress until exit 6
};

struct BudgetConfig {
  Placed<std::uint64_t> host_ram{0};  // bytes; 0: auto = 0.8 of what cgroup or machine has free
  Placed<std::uint64_t> device_memory{0};  // bytes; 0: auto
  Placed<std::int64_t> workers{0};     // 0: "auto", workers_of() of flow
  Placed<std::int64_t> compute_threads{2};
  Placed<std::int64_t> in_flight{0};  // samples; 0: derived from the bytes
};

struct BatchConfig {
  Placed<std::int64_t> size{8};
  Placed<std::int64_t> microbatch{0};  // clips; 0: "auto"
  Placed<bool> drop_last{false};
};

struct InputConfig {
  std::vector<double> mean{};  // of the 0..1 scaled channels; empty: no normalisation beyond /255
  std::vector<double> std{};
  std::string layout = "auto";  // auto, contiguous, channels_last
};

struct BatchNormConfig {
  enum class Mode { batch, group, frozen } mode = Mode::batch;
  std::int64_t group = 0;
  Place place;
};

struct ModelConfig {
  PluginConfig plugin;  // settings hold backbone = {...}, head = {...} and the model's own fields
  InputConfig input;
  std::optional<Placed<std::filesystem::path>> weights;
  BatchNormConfig batch_norm;
};

struct OptimizerConfig {
  PluginConfig plugin;
  Placed<double> lr_base_batch{0};  // 0: lr is used as it stands; else lr x batch.size / lr_base_batch
  Placed<double> clip_norm{0};      // 0: no clipping
};

struct EvalConfig {
  Placed<std::int64_t> every{1};  // epochs; 0: only at the end
  Placed<std::int64_t> clips{1};  // views of each video, averaged
  Placed<std::int64_t> microbatch{0};  // 0: that of the training
  Placed<std::string> best;       // name of a metric, e.g. "accuracy.top1"; "-loss" style: lower is better for names starting with '-'
  Placed<std::int64_t> patience{0};    // evaluations without a better one until the run ends; 0: never
  Placed<std::string> average{"prob"};  // prob: mean of softmax; score: mean of logits
};

struct CheckpointConfig {
  Placed<std::int64_t> every{0};  // optimizer steps; 0: after each epoch
  Placed<std::int64_t> keep{2};
};

// Some of a network's segments: as the plan finds best, all, none, or those that are named.
struct SegmentChoice {
  enum class Mode { automatic, all, none, named } mode = Mode::automatic;
  std::vector<std::string> names{};
  Place place{};
};

struct PlanConfig {
  SegmentChoice checkpoint;
  SegmentChoice offload;
  Placed<std::int64_t> chunk{0};      // frames; 0: auto
  Placed<std::string> layout{"auto"};  // auto, contiguous, channels_last
};

struct Pipeline {
  std::filesystem::path file;  // absolute
  RunConfig run;
  BudgetConfig budget;
  PluginConfig data;
  std::vector<StageConfig> stages;
  BatchConfig batch;
  ModelConfig model;
  PluginConfig loss;
  OptimizerConfig optimizer;
  std::optional<PluginConfig> schedule;  // warm-up and the rest are the schedule's own fields
  std::vector<PluginConfig> metrics;
  EvalConfig eval;
  CheckpointConfig checkpoint;
  PlanConfig plan;
  std::vector<std::filesystem::path> plugin_paths;  // [plugins] path, absolute
  std::map<std::string, std::string> environment;   // [env]
  std::vector<std::string> notices;  // what a person should know, e.g. keys that went with a plugin that an override replaced
  std::string canonical;  // the merged file as TOML with every default, as written to the run's folder
};

}  // namespace sluice
