// Saving and loading of checkpoints. The order of a save is its whole point: files durable, their names durable, the rename, the
// rename durable; only then does anything older go.
#include "framework/state/checkpoint.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <set>

#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/base/clock.hpp"
#include "framework/base/strings.hpp"
#include "framework/state/fault.hpp"
#include "framework/state/files.hpp"
#include "framework/state/hash.hpp"
#include "framework/state/safetensors_header.hpp"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr const char* model_name = "model.safetensors";
constexpr const char* optimizer_name = "optimizer.safetensors";
constexpr const char* state_name = "state.json";
constexpr const char* manifest_name = "manifest.json";
constexpr std::uint64_t largest_text = 64 << 20;  // of a manifest or a state

std::string name_of_step(std::int64_t step) { return "step-" + std::to_string(step); }

// The N of "step-N", written as name_of_step() writes it.
std::optional<std::int64_t> step_of_name(std::string_view name) {
  if (!name.starts_with("step-")) return std::nullopt;
  const auto number = name.substr(5);
  std::int64_t step = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), step);
  if (error != std::errc() || step < 0 || name_of_step(step) != name) return std::nullopt;
  return step;
}

WrittenFile write_plain(Disk& disk, const fs::path& path, std::span<const std::byte> bytes) {
  OutputFile file(disk, path);
  file.write(bytes);
  file.sync();
  file.close();
  Hash hash;
  hash.add(bytes);
  return {file.written(), hash.hex()};
}

std::string hash_of_file(const InputFile& file) {
  Hash hash;
  std::vector<std::byte> piece(std::min<std::uint64_t>(file.size(), 1 << 20));
  for (std::uint64_t at = 0; at < file.size(); at += piece.size()) {
    const auto bytes = std::span(piece).first(std::min<std::uint64_t>(piece.size(), file.size() - at));
    file.read(at, bytes);
    hash.add(bytes);
  }
  return hash.hex();
}

void check_file(const fs::path& path, const ManifestFile& wanted, std::uint64_t bytes, const std::string& hash) {
  if (bytes != wanted.bytes)
    throw Error(Code::data, fmt::format("the file has {} bytes, the manifest says {}", with_commas(bytes), with_commas(wanted.bytes)), {}, path.string());
  if (hash != wanted.hash) throw Error(Code::data, fmt::format("the file is damaged: hash {}, the manifest says {}", hash, wanted.hash), {}, path.string());
}

// Reads the manifest, then every file once, and compares.
Manifest verified(Disk& disk, const fs::path& folder) {
  Manifest manifest;
  try {
    manifest = parse_manifest(read_file(disk, folder / manifest_name, largest_text));
  } catch (const Error& error) {
    throw error.at((folder / manifest_name).string());
  }
  std::set<std::string> there;
  for (const auto& wanted : manifest.files) {
    const InputFile file(disk, folder / wanted.name);
    if (file.size() != wanted.bytes) check_file(file.path(), wanted, file.size(), {});
    check_file(file.path(), wanted, file.size(), hash_of_file(file));
    there.insert(wanted.name);
  }
  for (const char* name : {model_name, optimizer_name, state_name})
    if (there.count(name) == 0) throw Error(Code::data, fmt::format("the manifest lists no {}", name), {}, folder.string());
  fault_point<"checkpoint.load.verified">();
  return manifest;
}

void check_room(Disk& disk, const fs::path& folder, const CheckpointContent& content) {
  std::uint64_t bytes = content.state.size() + safetensors_bytes(content.model) + safetensors_bytes(content.optimizer);
  for (const auto& [name, blob] : content.blobs) bytes += blob.size();
  const auto available = disk.free_bytes(folder.string());
  if (available < 0 || bytes <= static_cast<std::uint64_t>(available)) return;
  throw Error(Code::io, fmt::format("a checkpoint of {} bytes does not fit: {} bytes are free", with_commas(bytes), with_commas(static_cast<std::uint64_t>(available))),
              "free some space or choose another run.dir. Earlier checkpoints are as they were", folder.string());
}

}  // namespace

Checkpoint::Checkpoint(Disk& disk, fs::path folder) : Checkpoint(disk, folder, verified(disk, folder)) {}

Checkpoint::Checkpoint(Disk& disk, fs::path folder, Manifest manifest)
    : disk_(&disk),
      folder_(std::move(folder)),
      manifest_(std::move(manifest)),
      model_(disk, folder_ / model_name),
      optimizer_(disk, folder_ / optimizer_name),
      state_(read_file(disk, folder_ / state_name, largest_text)) {
  fault_point<"checkpoint.load.opened">();
}

std::vector<std::string> Checkpoint::blobs() const {
  std::vector<std::string> names;
  for (const auto& [name, file] : manifest_.blobs) names.push_back(name);
  return names;
}

std::optional<std::vector<std::byte>> Checkpoint::blob(std::string_view name) const {
  for (const auto& [blob, file_name] : manifest_.blobs) {
    if (blob != name) continue;
    const InputFile file(*disk_, folder_ / file_name);
    std::vector<std::byte> bytes(file.size());
    file.read(0, bytes);
    return bytes;
  }
  return std::nullopt;
}

CheckpointStore::CheckpointStore(fs::path folder, Options options, Disk& disk) : folder_(std::move(folder)), options_(options), disk_(&disk) {
  if (options_.keep < 1) throw Error(Code::configuration, fmt::format("{} checkpoints cannot be kept", options_.keep), "set checkpoint.keep to 1 or more");
}

fs::path CheckpointStore::folder_of(std::int64_t step) const { return folder_ / name_of_step(step); }

std::vector<std::int64_t> CheckpointStore::steps() const {
  std::vector<std::int64_t> found;
  for (const auto& name : list_folder(*disk_, folder_))
    if (const auto step = step_of_name(name)) found.push_back(*step);
  std::sort(found.begin(), found.end());
  return found;
}

CheckpointStore::Found CheckpointStore::newest() const {
  Found found;
  const auto all = steps();
  for (auto step = all.rbegin(); step != all.rend(); ++step) {
    const fs::path folder = folder_of(*step);
    try {
      Checkpoint checkpoint(*disk_, folder);
      if (checkpoint.step() != *step) throw Error(Code::data, fmt::format("the manifest is that of step {}", checkpoint.step()));
      found.checkpoint.emplace(std::move(checkpoint));
      return found;
    } catch (const Error& error) {
      found.refused.push_back({folder, error.where().empty() ? error.message() : error.where() + ": " + error.message()});
    }
  }
  return found;
}

std::optional<std::int64_t> CheckpointStore::best_step() const {
  std::string target;
  if (uninterrupted([&] { return disk_->read_link((folder_ / "best").string(), target); }) != 0) {
    // What cannot be read may be there: to take it for absent would let prune() remove the best.
    if (errno == ENOENT || errno == EINVAL) return std::nullopt;
    throw Error(Code::io, fmt::format("cannot read the link: {}", std::strerror(errno)), {}, (folder_ / "best").string());
  }
  return step_of_name(target);
}

std::optional<Checkpoint> CheckpointStore::best() const {
  const auto step = best_step();
  if (!step) return std::nullopt;
  return Checkpoint(*disk_, folder_of(*step));
}

std::vector<fs::path> CheckpointStore::continue_from(std::int64_t step) {
  std::vector<fs::path> aside;
  bool changed = false;
  for (const auto& name : list_folder(*disk_, folder_)) {
    if (!name.starts_with("step-") || !name.ends_with(".tmp")) continue;
    remove_folder(*disk_, folder_ / name);
    changed = true;
  }
  fault_point<"checkpoint.start.cleaned">();
  if (const auto best = best_step(); best && *best > step) {
    if (uninterrupted([&] { return disk_->unlink((folder_ / "best").string()); }) != 0)
      throw Error(Code::io, fmt::format("cannot remove the link: {}", std::strerror(errno)), {}, (folder_ / "best").string());
    changed = true;
  }
  for (const auto later : steps()) {
    if (later <= step) continue;
    fs::path refused = folder_of(later);
    refused += ".refused";
    for (int n = 2; fs::exists(refused); ++n) refused = folder_of(later).string() + fmt::format(".refused.{}", n);
    rename_path(*disk_, folder_of(later), refused);
    fault_point<"checkpoint.start.set_aside">();
    aside.push_back(refused);
  }
  if (changed || !aside.empty()) sync_folder(*disk_, folder_);
  return aside;
}

CheckpointStore::Saved CheckpointStore::save(const CheckpointContent& content, SaveOptions options) {
  const Stopwatch watch;
  Saved saved;
  saved.folder = folder_of(content.step);
  fs::path temporary = saved.folder;
  temporary += ".tmp";
  make_folders(*disk_, folder_);
  check_room(*disk_, folder_, content);
  try {
    remove_folder(*disk_, temporary);
    make_folders(*disk_, temporary);
    fault_point<"checkpoint.save.begun">();

    Manifest manifest{.step = content.step, .files = {}, .blobs = {}};
    const auto add = [&](const std::string& name, const WrittenFile& written) {
      manifest.files.push_back({name, written.bytes, written.hash});
      saved.bytes += written.bytes;
    };
    add(model_name, write_safetensors(*disk_, temporary / model_name, content.model, {{"format", "pt"}}));
    fault_point<"checkpoint.save.model_written">();
    add(optimizer_name, write_safetensors(*disk_, temporary / optimizer_name, content.optimizer, {{"format", "pt"}}));
    fault_point<"checkpoint.save.optimizer_written">();
    for (const auto& [name, bytes] : content.blobs) {
      const std::string file = fmt::format("blob-{}.bin", manifest.blobs.size());
      add(file, write_plain(*disk_, temporary / file, bytes));
      manifest.blobs.emplace_back(name, file);
    }
    add(state_name, write_plain(*disk_, temporary / state_name, std::as_bytes(std::span(content.state))));
    fault_point<"checkpoint.save.state_written">();
    const std::string text = manifest_text(manifest);
    write_plain(*disk_, temporary / manifest_name, std::as_bytes(std::span(text)));
    fault_point<"checkpoint.save.manifest_written">();
    sync_folder(*disk_, temporary);
    fault_point<"checkpoint.save.files_durable">();
    commit(temporary, saved.folder);
  } catch (...) {
    try {
      remove_folder(*disk_, temporary);  // its bytes may be what the disk lacks
    } catch (const Error&) {
      // The first error is the one to tell; continue_from() removes what is left.
    }
    throw;
  }
  if (options.best) point_best_at(content.step);
  prune(content.step, saved);
  saved.seconds = watch.seconds();
  return saved;
}

void CheckpointStore::commit(const fs::path& temporary, const fs::path& final) {
  const bool replaces = uninterrupted([&] { return disk_->exchange(temporary.string(), final.string()); }) == 0;
  if (!replaces) {
    if (errno != ENOENT) {
      // A file system without exchange: the older checkpoint of this step is away for a moment, those before it are not.
      fs::path old = final;
      old += ".old.tmp";
      remove_folder(*disk_, old);
      if (uninterrupted([&] { return disk_->rename(final.string(), old.string()); }) != 0 && errno != ENOENT)
        throw Error(Code::io, fmt::format("cannot replace the checkpoint: {}", std::strerror(errno)), {}, final.string());
    }
    rename_path(*disk_, temporary, final);
  }
  fault_point<"checkpoint.save.renamed">();
  sync_folder(*disk_, folder_);
  fault_point<"checkpoint.save.durable">();
  remove_folder(*disk_, temporary);
}

void CheckpointStore::mark_best(std::int64_t step) {
  const auto all = steps();
  if (!std::binary_search(all.begin(), all.end(), step))
    throw Error(Code::io, fmt::format("there is no checkpoint of step {}", step), {}, folder_.string());
  point_best_at(step);
}

void CheckpointStore::point_best_at(std::int64_t step) {
  if (best_step() == step) return;
  const std::string beside = (folder_ / "best.tmp").string();
  uninterrupted([&] { return disk_->unlink(beside); });
  if (uninterrupted([&] { return disk_->link(name_of_step(step), beside); }) != 0)
    throw Error(Code::io, fmt::format("cannot make the link to {}: {}", name_of_step(step), std::strerror(errno)), {}, beside);
  fault_point<"checkpoint.best.linked">();
  rename_path(*disk_, beside, folder_ / "best");
  sync_folder(*disk_, folder_);
  fault_point<"checkpoint.best.durable">();
}

void CheckpointStore::prune(std::int64_t newest, Saved& saved) {
  try {
    auto old = steps();
    std::erase_if(old, [&, best = best_step()](std::int64_t step) { return step >= newest || step == best; });
    // `newest` is one of those that stay.
    const auto stay = static_cast<std::size_t>(options_.keep - 1);
    if (old.size() <= stay) return;
    old.resize(old.size() - stay);
    std::vector<fs::path> going;
    for (const auto step : old) {
      fs::path path = folder_of(step);
      path += ".tmp";
      remove_folder(*disk_, path);
      rename_path(*disk_, folder_of(step), path);
      fault_point<"checkpoint.prune.renamed">();
      going.push_back(path);
      saved.removed.push_back(step);
    }
    sync_folder(*disk_, folder_);  // no crash leaves a checkpoint with half of its files
    for (const auto& path : going) {
      remove_folder(*disk_, path);
      fault_point<"checkpoint.prune.removed">();
    }
  } catch (const Error& error) {
    saved.trouble = error.what();
  }
}

}  // namespace sluice
