// Checkpoints: folders `step-N` that are whole or absent, verified by hash before anything is read from them.
//
//   CheckpointStore store(run_dir / "checkpoints", {.keep = 2});
//   auto found = store.newest();                       // walks back past what does not verify
//   for (const auto& refused : found.refused) log::warning("{}: {}", refused.path.string(), refused.why);
//   if (found.checkpoint) restore(*found.checkpoint);
//   store.continue_from(found.checkpoint ? found.checkpoint->step() : 0);
//   ...
//   store.save({.step = 400, .model = weights, .optimizer = moments, .state = json_text}, {.best = true});
//
// One process writes (it holds the RunLock); any number may read meanwhile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "framework/state/disk.hpp"
#include "framework/state/manifest.hpp"
#include "framework/state/safetensors.hpp"

namespace sluice {

// What a checkpoint holds. Spans and fetch functions are read during save() only.
struct CheckpointContent {
  std::int64_t step = 0;  // optimizer steps done
  std::vector<TensorToWrite> model;      // parameters and buffers
  std::vector<TensorToWrite> optimizer;
  std::string state;                     // a JSON object: epoch, cursor, seed, plan, ... as the trainer writes it
  std::vector<std::pair<std::string, std::span<const std::byte>>> blobs{};  // states of ordered stages, by stage name
};

// A checkpoint on the disk that has been verified: every file is there and has the size and hash of the manifest.
class Checkpoint {
 public:
  // Throws Error(Code::data) that says what is wrong, Error(Code::io) when it cannot be read.
  Checkpoint(Disk& disk, std::filesystem::path folder);

  [[nodiscard]] std::int64_t step() const { return manifest_.step; }
  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
  [[nodiscard]] const SafetensorsFile& model() const { return model_; }
  [[nodiscard]] const SafetensorsFile& optimizer() const { return optimizer_; }
  [[nodiscard]] const std::string& state() const { return state_; }
  [[nodiscard]] std::vector<std::string> blobs() const;
  [[nodiscard]] std::optional<std::vector<std::byte>> blob(std::string_view name) const;

 private:
  Checkpoint(Disk& disk, std::filesystem::path folder, Manifest manifest);

  Disk* disk_;
  std::filesystem::path folder_;
  Manifest manifest_;
  SafetensorsFile model_;
  SafetensorsFile optimizer_;
  std::string state_;
};

class CheckpointStore {
 public:
  struct Options {
    std::int64_t keep = 2;  // newest ones that stay, at least 1; the best stays as well
  };
  // Makes nothing and reads nothing yet.
  explicit CheckpointStore(std::filesystem::path folder, Options options, Disk& disk = system_disk());

  struct Refused {
    std::filesystem::path path;
    std::string why;
  };
  struct Found {
    std::optional<Checkpoint> checkpoint;
    std::vector<Refused> refused;  // newer ones that do not verify, newest first
  };
  // The newest that verifies. Changes nothing on the disk.
  [[nodiscard]] Found newest() const;
  // The one that `best` names, if there is such a name; throws when it does not verify.
  [[nodiscard]] std::optional<Checkpoint> best() const;
  [[nodiscard]] std::vector<std::int64_t> steps() const;  // of all folders there, verified or not, ascending

  // Before the first save of a process: removes leftover `.tmp` folders and sets checkpoints of later steps aside as `step-N.refused`
  // (they did not verify, or the run goes on from an earlier one); `best` goes if it named one of them. Returns what it set aside.
  std::vector<std::filesystem::path> continue_from(std::int64_t step);

  struct Saved {
    std::filesystem::path folder;
    std::uint64_t bytes = 0;
    double seconds = 0;
    std::vector<std::int64_t> removed;
    std::string trouble;  // old ones that could not be removed, and why; the new one is durable all the same
  };
  struct SaveOptions {
    bool best = false;  // `best` names this one from now on
  };
  // Durable when it returns. After an error or a crash the checkpoints before are as they were, and a `.tmp` folder may be left.
  Saved save(const CheckpointContent& content, SaveOptions options);
  Saved save(const CheckpointContent& content) { return save(content, SaveOptions{}); }
  // For a checkpoint that turned out to be the best after it was saved.
  void mark_best(std::int64_t step);

  [[nodiscard]] std::filesystem::path folder_of(std::int64_t step) const;

 private:
  [[nodiscard]] std::optional<std::int64_t> best_step() const;
  void point_best_at(std::int64_t step);
  void commit(const std::filesystem::path& temporary, const std::filesystem::path& final);
  void prune(std::int64_t newest, Saved& saved);

  std::filesystem::path folder_;
  Options options_;
  Disk* disk_;
};

}  // namespace sluice
