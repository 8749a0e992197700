// What the machine has, against folders made to look like one, and against what the test itself did.
#include <doctest/doctest.h>

#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <csignal>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "framework/memory/machine.hpp"
#include "framework/memory/proc_files.hpp"
#include "tests/support/scratch_folder.hpp"

using namespace sluice;
namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t MiB = 1 << 20;

struct FakeRoot {
  void write(const std::string& file, const std::string& text) const {
    fs::create_directories((folder.path() / file).parent_path());
    std::ofstream(folder.path() / file) << text;
  }
  testing::ScratchFolder folder;
};

// A child that holds `bytes` until the object is gone.
class Holder {
 public:
  explicit Holder(std::size_t bytes) {
    int ready[2];
    REQUIRE(pipe(ready) == 0);
    child_ = fork();
    if (child_ == 0) {
      prctl(PR_SET_NAME, "holds memory");
      std::vector<char> block(bytes, 1);
      const bool told = write(ready[1], block.data(), 1) == 1;
      for (;;) pause();
      _exit(told ? 0 : 1);
    }
    char byte = 0;
    REQUIRE(read(ready[0], &byte, 1) == 1);
    close(ready[0]);
    close(ready[1]);
  }
  ~Holder() {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;
  [[nodiscard]] pid_t pid() const { return child_; }

 private:
  pid_t child_ = -1;
};

}  // namespace

// Catches: a flag that is found inside another ("avx512_bf16" for "avx512"), a quota of a level further up that is passed over.
TEST_CASE("the processor: model, flags, and the tightest quota of all levels") {
  const FakeRoot root;
  root.write("proc/cpuinfo", "processor\t: 0\nmodel name\t: Some CPU @ 2.0GHz\nflags\t\t: fpu avx2 avx512_bf16\n\nprocessor\t: 1\nmodel name\t: Other\n");
  Processor processor = read_processor(root.folder.path());
  CHECK(processor.model == "Some CPU @ 2.0GHz");
  CHECK(processor.has("avx2"));
  CHECK(processor.has("avx512_bf16"));
  CHECK_FALSE(processor.has("avx512"));
  CHECK_FALSE(processor.quota);
  CHECK(processor.usable() == processor.cores);

  root.write("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
  root.write("proc/self/cgroup", "0::/user/run\n");
  root.write("sys/fs/cgroup/user/run/cpu.max", "max 100000\n");
  CHECK_FALSE(read_processor(root.folder.path()).quota);
  root.write("sys/fs/cgroup/user/cpu.max", "50000 100000\n");
  processor = read_processor(root.folder.path());
  REQUIRE(processor.quota);
  CHECK(*processor.quota == 0.5);
  CHECK(processor.usable() == 1);
}

TEST_CASE("version 1: cpu.cfs_quota_us of the cpu controller; -1 is no limit") {
  const FakeRoot root;
  root.write("proc/self/mountinfo", "42 30 0:36 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n");
  root.write("proc/self/cgroup", "9:cpu,cpuacct:/job\n4:memory:/other\n");
  root.write("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "-1\n");
  root.write("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
  CHECK_FALSE(read_processor(root.folder.path()).quota);
  root.write("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "150000\n");
  CHECK(read_processor(root.folder.path()).quota.value_or(0) == 1.5);
}

TEST_CASE("memory and swap are those of /proc/meminfo") {
  const FakeRoot root;
  root.write("proc/meminfo", "MemTotal:       2000 kB\nMemFree: 1 kB\nMemAvailable:   1500 kB\nSwapCached: 7 kB\nSwapTotal:      800 kB\nSwapFree: 300 kB\n");
  const MachineMemory memory = read_memory(root.folder.path());
  CHECK(memory.total == 2000 * 1024);
  CHECK(memory.available == 1500 * 1024);
  CHECK(memory.swap_total == 800 * 1024);
  CHECK(memory.swap_free == 300 * 1024);
}

// Catches: names with spaces and brackets that break a parser, processes in the order of their numbers instead of their size.
TEST_CASE("the largest processes come first; what cannot be read is left out") {
  const FakeRoot root;
  const auto process = [&](const std::string& pid, const std::string& name, const std::string& pages) {
    root.write("proc/" + pid + "/comm", name + "\n");
    root.write("proc/" + pid + "/statm", "9999 " + pages + " 5 1 0 2 0\n");
  };
  process("10", "small", "100");
  process("20", "a (b) c", "5000");
  process("30", "kthread", "0");
  process("40", "middle", "900");
  root.write("proc/50/comm", "no statm\n");
  root.write("proc/self/statm", "1 1\n");
  const auto found = largest_processes(2, root.folder.path());
  REQUIRE(found.size() == 2);
  CHECK(found[0].pid == 20);
  CHECK(found[0].name == "a (b) c");
  CHECK(found[0].resident == 5000 * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE)));
  CHECK(found[1].pid == 40);
}

TEST_CASE("a process that holds memory is found with what the kernel says it holds") {
  const Holder holder(300 * MiB);
  const auto kernel = field_in("/proc/" + std::to_string(holder.pid()) + "/status", "VmRSS:").value_or(0) * 1024;
  REQUIRE(kernel > 300 * MiB);
  for (const auto& process : largest_processes(1000)) {
    CHECK(process.pid != getpid());
    if (process.pid != holder.pid()) continue;
    CHECK(process.name == "holds memory");
    CHECK(process.resident > kernel - 4 * MiB);
    CHECK(process.resident < kernel + 4 * MiB);
    return;
  }
  FAIL("it is not in the list");
}

TEST_CASE("disk space is that of the nearest folder that exists") {
  const testing::ScratchFolder folder;
  const DiskSpace disk = disk_space(folder.path() / "not" / "yet");
  CHECK(disk.folder == folder.path());
  CHECK(disk.writable);
  CHECK(disk.free == doctest::Approx(static_cast<double>(fs::space(folder.path()).available)).epsilon(0.05));
}
