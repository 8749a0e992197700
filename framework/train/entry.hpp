// The door to libsluice_train.so, which the command line loads after the configuration has been found valid and [env] applied.
// No LibTorch type here: the program that includes this links none.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "framework/config/pipeline.hpp"
#include "framework/plugin/registry.hpp"

namespace sluice {

struct TrainRequest {
  enum class Verb { train, eval, predict, check, plan } verb = Verb::train;
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
  bool quiet = false;
};

// Returns the exit code; errors are thrown as sluice::Error. One run a process.
using TrainEntry = int (*)(const TrainRequest&);
// What the training half of a plugin must have been built with; see sluice/torch/fingerprint.hpp.
using FingerprintEntry = const char* (*)();
// Checks the kernels that standard input names and returns the exit code: what a training starts as a child.
using CheckKernelsEntry = int (*)();

inline constexpr const char* train_library = "libsluice_train.so";
inline constexpr const char* train_entry = "sluice_train_run";
inline constexpr const char* fingerprint_entry = "sluice_train_fingerprint";
inline constexpr const char* check_kernels_entry = "sluice_train_check_kernels";

}  // namespace sluice
