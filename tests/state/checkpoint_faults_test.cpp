// Each call to the disk fails in turn, in each way that calls fail, until none is left to fail; then a disk that is really full.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include "checkpoint_content.hpp"
#include "framework/state/checkpoint.hpp"
#include "simulated_disk.hpp"
#include "../support/scratch_folder.hpp"

#include <sluice/error.hpp>

using namespace sluice;
using sluice::testing::KnownContent;
using sluice::testing::SimulatedDisk;
using sluice::testing::ScratchFolder;
using Call = SimulatedDisk::Call;

namespace {

struct Way {
  std::string name;
  SimulatedDisk::Fault fault;
  bool harmless;  // a program that is right does not notice
};
const Way ways[] = {{"EIO", {.error = EIO}, false},
                    {"ENOSPC once", {.error = ENOSPC}, false},
                    {"ENOSPC for ever", {.error = ENOSPC, .for_ever = true}, false},
                    {"EINTR", {.error = EINTR}, true},
                    {"short write", {.short_write = true}, true}};

// Calls whose failure is no reason to give up: closing a folder that was only synced, asking for free bytes, the exchange that another
// way replaces, removing a name that is not there.
bool may_go_unnoticed(Call call) { return call == Call::close || call == Call::free_bytes || call == Call::exchange || call == Call::unlink; }

}  // namespace

TEST_CASE("saving: the n-th call fails, for every n: a typed error with path and bytes, the checkpoint before as it was") {
  // Catches an error that is swallowed, a half checkpoint that is taken for whole, an old one that goes too early.
  for (const bool no_exchange : {false, true}) {
    for (const auto& way : ways) {
      int failures = 0, told = 0;
      for (std::int64_t n = 1;; ++n) {
        CAPTURE(way.name);
        CAPTURE(n);
        SimulatedDisk disk;
        disk.no_exchange = no_exchange;
        CheckpointStore store("run/checkpoints", {.keep = 2}, disk);
        store.save(KnownContent(1).content(), {.best = true});
        store.save(KnownContent(2).content());
        store.save(KnownContent(3).content());
        disk.fail_at(n, way.fault);
        bool complete = true;
        std::string trouble;
        try {
          trouble = store.save(KnownContent(4).content(), {.best = true}).trouble;
        } catch (const Error& error) {
          complete = false;
          ++told;
          CHECK(error.code() == Code::io);
          CHECK(error.where().find("run/checkpoints") == 0);
          CHECK(!way.harmless);
          if (disk.failed() == Call::pwrite || disk.failed() == Call::allocate) {
            CHECK(error.message().find(" bytes") != std::string::npos);
            CHECK(error.where().find("step-4.tmp/") != std::string::npos);
            if (way.fault.error == ENOSPC) CHECK(error.hint().find("bytes are free") != std::string::npos);
          }
        }
        const auto failed = disk.failed();
        disk.heal();
        if (!failed) {
          CHECK(complete);
          break;
        }
        ++failures;
        if (complete && !way.harmless && trouble.empty() && way.fault.error == EIO) CHECK(may_go_unnoticed(*failed));
        // No file may stay open, or a long run ends for want of descriptors.
        CHECK(disk.open_files() == 0);
        const auto found = store.newest();
        REQUIRE(found.checkpoint);
        CHECK(found.refused.empty());
        const auto step = found.checkpoint->step();
        CHECK((complete ? step == 4 : step == 3 || step == 4));
        CHECK(KnownContent(step).difference(*found.checkpoint) == "");
        REQUIRE(store.best());
        CHECK((complete ? store.best()->step() == 4 : true));
        // And the run can go on.
        store.continue_from(step);
        store.save(KnownContent(5).content());
        CHECK(KnownContent(5).difference(*store.newest().checkpoint) == "");
        CHECK(store.steps().size() <= 3);
      }
      MESSAGE(way.name << ": " << failures << " calls made to fail, " << told << " told as an error");
      CHECK(failures >= (way.fault.short_write ? 5 : 40));
      if (!way.harmless) CHECK(told >= 20);
    }
  }
}

TEST_CASE("loading: the n-th call fails, for every n: an older one with the reason, or a typed error; never wrong values") {
  // Catches a read error that is taken for the end of the file, and "no checkpoint" where there is one.
  for (const auto& way : ways) {
    if (way.fault.short_write) continue;
    for (std::int64_t n = 1;; ++n) {
      CAPTURE(way.name);
      CAPTURE(n);
      SimulatedDisk disk;
      CheckpointStore store("run", {.keep = 2}, disk);
      store.save(KnownContent(1).content());
      store.save(KnownContent(2).content());
      disk.fail_at(n, way.fault);
      bool reached = true;
      try {
        const auto found = store.newest();
        reached = disk.failed().has_value();
        disk.heal();
        REQUIRE(found.checkpoint);
        const auto step = found.checkpoint->step();
        CHECK(found.refused.size() == static_cast<std::size_t>(2 - step));
        CHECK(KnownContent(step).difference(*found.checkpoint) == "");
        if (way.harmless) CHECK(step == 2);
      } catch (const Error& error) {
        CHECK(error.code() == Code::io);
        CHECK(!way.harmless);
        disk.heal();
      }
      CHECK(disk.open_files() == 0);
      if (!reached) break;
      REQUIRE(n < 1000);
    }
  }
}

TEST_CASE("starting: the n-th call fails, for every n: nothing that verifies is lost") {
  // Catches leftovers that are removed by the wrong name.
  for (std::int64_t n = 1;; ++n) {
    CAPTURE(n);
    SimulatedDisk disk;
    CheckpointStore store("run", {.keep = 3}, disk);
    for (const std::int64_t step : {1, 2, 3}) store.save(KnownContent(step).content(), {.best = step == 2});
    disk.make_folder("run/step-9.tmp");
    disk.bytes_of("run/step-3/state.json")->at(0) ^= 1;
    disk.fail_at(n, {.error = EIO});
    try {
      store.continue_from(2);
    } catch (const Error& error) {
      CHECK(error.code() == Code::io);
    }
    const bool reached = disk.failed().has_value();
    disk.heal();
    CHECK(store.newest().checkpoint->step() == 2);
    CHECK(store.best()->step() == 2);
    if (!reached) break;
  }
}

TEST_CASE("a checkpoint that cannot fit is refused before anything is written") {
  SimulatedDisk disk;
  CheckpointStore store("run", {.keep = 2}, disk);
  store.save(KnownContent(1).content());
  disk.free = 700;
  CHECK_THROWS_WITH_AS(store.save(KnownContent(2).content()), doctest::Contains("700 bytes are free"), Error);
  CHECK(store.steps() == std::vector<std::int64_t>{1});
}

namespace {

// Mounts a file system of one mebibyte over the folder, and takes it away at the end.
class SmallMount {
 public:
  explicit SmallMount(const std::filesystem::path& folder) : folder_(folder) {
    mounted_ = ::mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=1m") == 0;
  }
  ~SmallMount() {
    if (mounted_) ::umount2(folder_.c_str(), MNT_DETACH);
  }
  SmallMount(const SmallMount&) = delete;
  SmallMount& operator=(const SmallMount&) = delete;
  [[nodiscard]] bool mounted() const { return mounted_; }

 private:
  std::filesystem::path folder_;
  bool mounted_ = false;
};

// A disk that says it has room until the writes come: so that what is tested is the failing write, not the question beforehand.
class Boasting final : public Disk {
 public:
  explicit Boasting(bool allocates) : allocates_(allocates) {}
  int open(const std::string& path, int flags, unsigned mode) override { return real_.open(path, flags, mode); }
  int close(int fd) override { return real_.close(fd); }
  ssize_t pread(int fd, void* data, std::size_t bytes, std::uint64_t offset) override { return real_.pread(fd, data, bytes, offset); }
  ssize_t pwrite(int fd, const void* data, std::size_t bytes, std::uint64_t offset) override { return real_.pwrite(fd, data, bytes, offset); }
  int allocate(int fd, std::uint64_t bytes) override { return allocates_ ? real_.allocate(fd, bytes) : (errno = EOPNOTSUPP, -1); }
  int truncate(int fd, std::uint64_t bytes) override { return real_.truncate(fd, bytes); }
  int sync(int fd) override { return real_.sync(fd); }
  std::int64_t size(int fd) override { return real_.size(fd); }
  int make_folder(const std::string& path) override { return real_.make_folder(path); }
  int remove_folder(const std::string& path) override { return real_.remove_folder(path); }
  int rename(const std::string& from, const std::string& to) override { return real_.rename(from, to); }
  int exchange(const std::string& a, const std::string& b) override { return real_.exchange(a, b); }
  int unlink(const std::string& path) override { return real_.unlink(path); }
  int link(const std::string& target, const std::string& path) override { return real_.link(target, path); }
  int read_link(const std::string& path, std::string& target) override { return real_.read_link(path, target); }
  int list(const std::string& path, std::vector<std::string>& names) override { return real_.list(path, names); }
  std::int64_t free_bytes(const std::string& path) override { return ++asked_ == 1 ? std::int64_t{1} << 40 : real_.free_bytes(path); }

 private:
  Disk& real_ = system_disk();
  bool allocates_;
  int asked_ = 0;
};

void fill_a_full_disk(const std::filesystem::path& folder) {
  CheckpointStore store(folder, {.keep = 2});
  const KnownContent first(1, 7, 1500);  // some 770 KB: one fits, two do not
  store.save(first.content());
  CHECK_THROWS_WITH_AS(store.save(KnownContent(2, 7, 1500).content()), doctest::Contains("bytes are free"), Error);
  for (const bool allocates : {true, false}) {
    CAPTURE(allocates);
    Boasting boasting(allocates);
    CheckpointStore trusting(folder, {.keep = 2}, boasting);
    std::string message;
    try {
      trusting.save(KnownContent(2, 7, 1500).content());
    } catch (const Error& error) {
      CHECK(error.code() == Code::io);
      message = error.what();
    }
    CAPTURE(message);
    CHECK(message.find((folder / "step-2.tmp").string()) != std::string::npos);
    CHECK(message.find(allocates ? "cannot reserve" : "cannot write") != std::string::npos);
    CHECK(message.find("No space left on device") != std::string::npos);
    CHECK_FALSE(std::filesystem::exists(folder / "step-2.tmp"));
    const auto found = store.newest();
    REQUIRE(found.checkpoint);
    CHECK(first.difference(*found.checkpoint) == "");
  }
}

}  // namespace

TEST_CASE("a disk that is really full") {
  // Catches what a simulated disk would forgive: fallocate, statvfs and late errors of a real file system.
  const ScratchFolder folder;
  {
    const SmallMount small(folder.path());
    if (small.mounted()) {
      fill_a_full_disk(folder.path());
      return;
    }
  }
  // Without the right to mount: in a user and mount namespace of our own. Where that is forbidden as well the same is asked of the
  // simulated disk, which the cases above have done for every single call.
  const auto user = ::getuid(), group = ::getgid();
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0) {
    std::ofstream("/proc/self/setgroups") << "deny";
    std::ofstream("/proc/self/uid_map") << "0 " << user << " 1";
    std::ofstream("/proc/self/gid_map") << "0 " << group << " 1";
    const SmallMount small(folder.path());
    if (small.mounted()) {
      fill_a_full_disk(folder.path());
      return;
    }
  }
  MESSAGE("no file system can be mounted here: the full disk is simulated");
  SimulatedDisk disk;
  CheckpointStore store("run", {.keep = 2}, disk);
  const KnownContent first(1, 7, 1500);
  store.save(first.content());
  disk.fail_at(8, {.error = ENOSPC, .for_ever = true});
  CHECK_THROWS_WITH_AS(store.save(KnownContent(2, 7, 1500).content()), doctest::Contains("No space left on device"), Error);
  disk.heal();
  CHECK(first.difference(*store.newest().checkpoint) == "");
}
