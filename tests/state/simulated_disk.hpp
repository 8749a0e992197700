// SimulatedDisk: a disk in memory that forgets what was not synced, and on which any call can be made to fail.
//
//   SimulatedDisk disk;
//   disk.cut_power_at(17);                  // the 17th call throws PowerCut; so does every one after it
//   ... save ...
//   SimulatedDisk after = disk.after_power_cut(seed);  // a state that a real disk may be left in
//
// What may survive of work that was not synced is deliberately worse than any one file system: writes to a file are lost, torn or kept
// each by itself, a new size may come with zeros, and names in a folder change in any subset of the changes asked for.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>

#include "framework/state/disk.hpp"

namespace sluice::testing {

struct PowerCut {};

class SimulatedDisk final : public Disk {
 public:
  enum class Call { open, close, pread, pwrite, allocate, truncate, sync, size, make_folder, remove_folder, rename, exchange, unlink, link, read_link, list, free_bytes };

  // What a failing call does.
  struct Fault {
    int error = EIO;
    bool short_write = false;  // half of the bytes instead of an error
    bool for_ever = false;     // writes after it fail as well (a full disk stays full)
  };

  SimulatedDisk() { nodes_[root_].folder = true; }

  // --- what a test asks for
  void fail_at(std::int64_t call, Fault fault) { fail_at_ = calls_ + call, fault_ = fault; }
  void cut_power_at(std::int64_t call) { cut_at_ = calls_ + call; }
  void heal() { fail_at_ = cut_at_ = 0, full_ = false, failed_.reset(); }
  [[nodiscard]] std::int64_t calls() const { return calls_; }
  // The call that was made to fail, if it was reached.
  [[nodiscard]] std::optional<Call> failed() const { return failed_; }

  // Planted defects of the program above, played by the disk.
  bool ignore_file_sync = false;    // as if files were renamed without fsync
  bool ignore_folder_sync = false;  // as if what is old went before the new name is durable
  // Replaces what is read of a file, by its name; as if, say, hashes were not compared.
  std::vector<std::uint8_t> (*forge)(const SimulatedDisk&, const std::string& path, const std::vector<std::uint8_t>& bytes) = nullptr;

  // A disk as it may be found after the power came back.
  [[nodiscard]] SimulatedDisk after_power_cut(std::uint64_t seed) const {
    std::mt19937_64 random(seed);
    // All kept, all lost, or each change by itself: the extremes are the likeliest real ones.
    const auto mode = random() % 4;
    const auto kept = [&] { return mode == 0 ? true : mode == 1 ? false : random() % 2 == 0; };
    SimulatedDisk out;
    out.nodes_.clear();
    out.next_node_ = next_node_;
    for (const auto& [id, node] : nodes_) {
      Node survivor;
      survivor.folder = node.folder;
      survivor.target = node.target;
      survivor.bytes = node.durable_bytes;
      for (const auto& change : node.pending_bytes)
        if (kept()) apply(survivor.bytes, change, random);
      survivor.names = node.durable_names;
      for (const auto& change : node.pending_names)
        if (kept()) apply(survivor.names, change);
      survivor.durable_bytes = survivor.bytes;
      survivor.durable_names = survivor.names;
      out.nodes_[id] = std::move(survivor);
    }
    return out;
  }

  // --- for tests that damage files
  [[nodiscard]] std::vector<std::uint8_t>* bytes_of(const std::string& path) {
    const auto id = find(path);
    return id ? &nodes_[*id].bytes : nullptr;
  }
  [[nodiscard]] const std::vector<std::uint8_t>* bytes_of(const std::string& path) const {
    const auto id = find(path);
    return id ? &nodes_.at(*id).bytes : nullptr;
  }
  [[nodiscard]] std::int64_t open_files() const { return static_cast<std::int64_t>(files_.size()); }
  std::int64_t free = std::int64_t{1} << 40;

  // --- Disk
  int open(const std::string& path, int flags, unsigned) override {
    if (begin(Call::open)) return -1;
    auto id = find(path);
    if (!id) {
      if (!(flags & O_CREAT)) return error(ENOENT);
      const auto [parent, name] = place(path);
      if (!parent) return error(ENOENT);
      id = next_node_++;
      nodes_[*id] = {};
      change_names(*parent, {{name, *id}});
    }
    auto& node = nodes_[*id];
    if ((flags & O_DIRECTORY) && !node.folder) return error(ENOTDIR);
    if (node.folder && (flags & (O_WRONLY | O_RDWR))) return error(EISDIR);
    if (flags & O_TRUNC) change_bytes(node, {Change::Kind::truncate, 0, {}});
    files_[next_file_] = {*id, path};
    return next_file_++;
  }
  int close(int fd) override {
    files_.erase(fd);
    if (off_) return 0;  // destructors close; nothing is thrown there
    if (closing(Call::close)) return -1;
    return 0;
  }
  ssize_t pread(int fd, void* data, std::size_t bytes, std::uint64_t offset) override {
    if (begin(Call::pread)) return -1;
    const auto content = seen(fd);
    if (offset >= content.size()) return 0;
    const auto count = std::min<std::size_t>(bytes, content.size() - offset);
    std::memcpy(data, content.data() + offset, count);
    return static_cast<ssize_t>(count);
  }
  ssize_t pwrite(int fd, const void* data, std::size_t bytes, std::uint64_t offset) override {
    bool half = false;
    if (begin(Call::pwrite, &half)) return -1;
    if (half) bytes = (bytes + 1) / 2;
    const auto* from = static_cast<const std::uint8_t*>(data);
    change_bytes(nodes_[files_.at(fd).node], {Change::Kind::write, offset, {from, from + bytes}});
    return static_cast<ssize_t>(bytes);
  }
  int allocate(int fd, std::uint64_t bytes) override {
    if (begin(Call::allocate)) return -1;
    auto& node = nodes_[files_.at(fd).node];
    if (bytes > node.bytes.size()) change_bytes(node, {Change::Kind::truncate, bytes, {}});
    return 0;
  }
  int truncate(int fd, std::uint64_t bytes) override {
    if (begin(Call::truncate)) return -1;
    change_bytes(nodes_[files_.at(fd).node], {Change::Kind::truncate, bytes, {}});
    return 0;
  }
  int sync(int fd) override {
    if (begin(Call::sync)) return -1;
    auto& node = nodes_[files_.at(fd).node];
    if (node.folder ? ignore_folder_sync : ignore_file_sync) return 0;
    node.durable_bytes = node.bytes;
    node.durable_names = node.names;
    node.pending_bytes.clear();
    node.pending_names.clear();
    return 0;
  }
  std::int64_t size(int fd) override {
    if (begin(Call::size)) return -1;
    const auto& node = nodes_.at(files_.at(fd).node);
    if (node.folder) return error(EISDIR);
    return static_cast<std::int64_t>(seen(fd).size());
  }
  int make_folder(const std::string& path) override {
    if (begin(Call::make_folder)) return -1;
    if (find(path)) return error(EEXIST);
    const auto [parent, name] = place(path);
    if (!parent) return error(ENOENT);
    const auto id = next_node_++;
    nodes_[id].folder = true;
    change_names(*parent, {{name, id}});
    return 0;
  }
  int remove_folder(const std::string& path) override {
    if (begin(Call::remove_folder)) return -1;
    const auto id = find(path);
    if (!id) return error(ENOENT);
    if (!nodes_[*id].folder) return error(ENOTDIR);
    if (!nodes_[*id].names.empty()) return error(ENOTEMPTY);
    const auto [parent, name] = place(path);
    change_names(*parent, {{name, std::nullopt}});
    return 0;
  }
  int rename(const std::string& from, const std::string& to) override {
    if (begin(Call::rename)) return -1;
    const auto id = find(from);
    const auto [from_parent, from_name] = place(from);
    const auto [to_parent, to_name] = place(to);
    if (!id || !to_parent) return error(ENOENT);
    if (from_parent != to_parent) return error(EXDEV);  // what is tested renames within one folder only
    if (const auto there = find(to)) {
      const auto& old = nodes_[*there];
      if (old.folder && !old.names.empty()) return error(ENOTEMPTY);
      if (old.folder != nodes_[*id].folder) return error(old.folder ? EISDIR : ENOTDIR);
    }
    change_names(*from_parent, {{from_name, std::nullopt}, {to_name, *id}});
    return 0;
  }
  int exchange(const std::string& a, const std::string& b) override {
    if (begin(Call::exchange)) return -1;
    if (no_exchange) return error(EINVAL);
    const auto first = find(a), second = find(b);
    if (!first || !second) return error(ENOENT);
    const auto [parent, name] = place(a);
    change_names(*parent, {{name, *second}, {place(b).second, *first}});
    return 0;
  }
  bool no_exchange = false;  // a file system without renameat2
  int unlink(const std::string& path) override {
    if (begin(Call::unlink)) return -1;
    const auto id = find(path);
    if (!id) return error(ENOENT);
    if (nodes_[*id].folder) return error(EISDIR);
    const auto [parent, name] = place(path);
    change_names(*parent, {{name, std::nullopt}});
    return 0;
  }
  int link(const std::string& target, const std::string& path) override {
    if (begin(Call::link)) return -1;
    if (find(path)) return error(EEXIST);
    const auto [parent, name] = place(path);
    if (!parent) return error(ENOENT);
    const auto id = next_node_++;
    nodes_[id].target = target;
    change_names(*parent, {{name, id}});
    return 0;
  }
  int read_link(const std::string& path, std::string& target) override {
    if (begin(Call::read_link)) return -1;
    const auto id = find(path);
    if (!id) return error(ENOENT);
    if (nodes_[*id].target.empty()) return error(EINVAL);
    target = nodes_[*id].target;
    return 0;
  }
  int list(const std::string& path, std::vector<std::string>& names) override {
    if (begin(Call::list)) return -1;
    const auto id = find(path);
    if (!id) return error(ENOENT);
    for (const auto& [name, node] : nodes_[*id].names) names.push_back(name);
    return 0;
  }
  std::int64_t free_bytes(const std::string&) override {
    if (begin(Call::free_bytes)) return -1;
    return free;
  }

 private:
  using Names = std::map<std::string, std::int64_t>;
  struct Change {
    enum class Kind { write, truncate } kind;
    std::uint64_t offset;  // or the new size
    std::vector<std::uint8_t> bytes;
  };
  using NameChange = std::vector<std::pair<std::string, std::optional<std::int64_t>>>;
  struct Node {
    bool folder = false;
    std::string target;  // of a link
    std::vector<std::uint8_t> bytes, durable_bytes;
    std::vector<Change> pending_bytes;
    Names names, durable_names;
    std::vector<NameChange> pending_names;
  };
  struct File {
    std::int64_t node;
    std::string path;
  };

  static int error(int number) {
    errno = number;
    return -1;
  }
  // Whether the call must fail; errno is set then.
  bool begin(Call call, bool* half = nullptr) {
    if (off_ || (cut_at_ > 0 && calls_ + 1 >= cut_at_)) {
      off_ = true;
      throw PowerCut{};
    }
    return closing(call, half);
  }
  bool closing(Call call, bool* half = nullptr) {
    ++calls_;
    const bool grows = call == Call::pwrite || call == Call::allocate;
    if (full_ && grows) return error(fault_.error) == -1;
    if (calls_ != fail_at_) return false;
    failed_ = call;
    if (fault_.short_write) {
      if (half) *half = true;
      return false;
    }
    full_ = fault_.for_ever;
    if (fault_.for_ever && !grows) return false;
    return error(fault_.error) == -1;
  }

  static void write(std::vector<std::uint8_t>& bytes, std::uint64_t offset, const std::uint8_t* from, std::size_t count) {
    if (bytes.size() < offset + count) bytes.resize(offset + count);
    std::copy_n(from, count, bytes.begin() + static_cast<std::ptrdiff_t>(offset));
  }
  static void apply(std::vector<std::uint8_t>& bytes, const Change& change, std::mt19937_64& random) {
    if (change.kind == Change::Kind::truncate) {
      bytes.resize(change.offset);
      return;
    }
    constexpr std::size_t sector = 512;
    const bool torn = random() % 3 == 0;
    if (torn && bytes.size() < change.offset + change.bytes.size()) bytes.resize(change.offset + change.bytes.size());  // the size came, the data did not
    for (std::size_t at = 0; at < change.bytes.size(); at += sector)
      if (!torn || random() % 2 == 0) write(bytes, change.offset + at, change.bytes.data() + at, std::min(sector, change.bytes.size() - at));
  }
  static void apply(Names& names, const NameChange& change) {
    for (const auto& [name, id] : change) {
      if (id) names[name] = *id;
      else names.erase(name);
    }
  }
  void change_bytes(Node& node, Change change) {
    if (change.kind == Change::Kind::truncate) node.bytes.resize(change.offset);
    else write(node.bytes, change.offset, change.bytes.data(), change.bytes.size());
    node.pending_bytes.push_back(std::move(change));
  }
  void change_names(std::int64_t folder, NameChange change) {
    apply(nodes_[folder].names, change);
    nodes_[folder].pending_names.push_back(std::move(change));
  }
  [[nodiscard]] std::vector<std::uint8_t> seen(int fd) const {
    const auto& file = files_.at(fd);
    const auto& bytes = nodes_.at(file.node).bytes;
    return forge ? forge(*this, file.path, bytes) : bytes;
  }
  [[nodiscard]] std::optional<std::int64_t> find(const std::string& path) const {
    std::int64_t at = root_;
    std::size_t begin = 0;
    while (begin < path.size()) {
      auto end = path.find('/', begin);
      if (end == std::string::npos) end = path.size();
      const auto name = path.substr(begin, end - begin);
      begin = end + 1;
      if (name.empty() || name == ".") continue;
      const auto& names = nodes_.at(at).names;
      const auto found = names.find(name);
      if (found == names.end() || nodes_.count(found->second) == 0) return std::nullopt;
      at = found->second;
    }
    return at;
  }
  // Folder and last name.
  [[nodiscard]] std::pair<std::optional<std::int64_t>, std::string> place(const std::string& path) const {
    const auto slash = path.rfind('/');
    return {find(slash == std::string::npos ? "" : path.substr(0, slash)), slash == std::string::npos ? path : path.substr(slash + 1)};
  }

  static constexpr std::int64_t root_ = 1;
  std::map<std::int64_t, Node> nodes_;
  std::map<int, File> files_;
  std::int64_t next_node_ = 2;
  int next_file_ = 3;
  std::int64_t calls_ = 0, fail_at_ = 0, cut_at_ = 0;
  Fault fault_;
  std::optional<Call> failed_;
  bool full_ = false, off_ = false;
};

}  // namespace sluice::testing
