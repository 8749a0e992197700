// The door to libsluice_train.so, which the command line loads after the configuration has been found valid and [env] applied.
// No LibTorch type here: the program that includes this links none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "framework/config/pipeline.hpp"
#include "framework/plugin/registry.hpp"

namespace sluice {

// What `sluice doctor FILE` learns of a pipeline. As far as it came before an error was thrown.
struct Preflight {
  std::string device{};
  std::int64_t train = 0, val = 0;  // samples
  std::vector<std::pair<std::string, std::string>> failed{};  // entries that cannot be used: where, why
  std::int64_t too_large = 0, unusable = 0;  // samples that will be left out
  std::int64_t steps = 0;
  std::string plan{};               // why it is as it is; empty: there is none
  bool cut = false;                 // it cuts batches or computes segments twice, as more memory would not
  std::uint64_t host_ram = 0, smallest = 0, unused = 0;  // bytes
  std::uint64_t checkpoint = 0;     // bytes of the tensors of one
};

struct TrainRequest {
  enum class Verb { train, eval, predict, check, plan, measure_plan, doctor } verb = Verb::train;
  const Pipeline* pipeline = nullptr;
  Registry* registry = nullptr;
  std::vector<std::string> overrides;  // as typed, for the record in the run's folder
  bool resume = false;                 // train: go on from the newest checkpoint that verifies; afresh and says so if there is none
  bool debug = false;                  // train: every operation is looked at
  bool force_threads = false;          // resume although compute_threads differ
  std::filesystem::path checkpoint;    // eval, predict: a step-N folder, a .safetensors file, or empty: the best, else the newest, of run.dir
  std::vector<std::string> videos;     // predict
  std::int64_t top = 5;                // predict: labels a video
  bool json = false;
  bool measure = false;                // plan: what each switch does, measured
  std::vector<std::string> pipeline_words{};  // plan: FILE and its options as typed, without `overrides`, for a child that measures
  bool quiet = false;
  Preflight* preflight = nullptr;      // doctor: filled in
};

// What LibTorch says of itself and of this machine.
struct LibTorchReport {
  std::string version{};
  std::filesystem::path file{};  // of its main library
  bool cuda = false;             // built with CUDA
  std::size_t gpus = 0;          // that it would use
};

// Returns the exit code; errors are thrown as sluice::Error, and StartAfresh where what the network needs was measured: the process is to begin once
// more without what that left in its libraries. One run a process.
using TrainEntry = int (*)(const TrainRequest&);
// What the training half of a plugin must have been built with; see sluice/torch/fingerprint.hpp.
using FingerprintEntry = const char* (*)();
// Checks the kernels that standard input names and returns the exit code: what a training starts as a child.
using CheckKernelsEntry = int (*)();

using LibTorchEntry = void (*)(LibTorchReport&);

inline constexpr const char* train_library = "libsluice_train.so";
inline constexpr const char* train_entry = "sluice_train_run";
inline constexpr const char* fingerprint_entry = "sluice_train_fingerprint";
inline constexpr const char* check_kernels_entry = "sluice_train_check_kernels";
inline constexpr const char* libtorch_entry = "sluice_train_libtorch";

}  // namespace sluice
