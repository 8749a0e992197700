// What the system says, against what the test did; cgroups against folders made to look like them.
#include <doctest/doctest.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <regex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "framework/memory/process.hpp"

using namespace sluice;
namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t MiB = 1 << 20;

struct FakeRoot {
  FakeRoot() {
    std::string pattern = (fs::temp_directory_path() / "sluice-root-XXXXXX").string();
    path = mkdtemp(pattern.data());
  }
  ~FakeRoot() { fs::remove_all(path); }
  void write(const std::string& file, const std::string& text) const {
    fs::create_directories((path / file).parent_path());
    std::ofstream(path / file) << text;
  }
  fs::path path;
};

}  // namespace

TEST_CASE("resident bytes and their peak follow an allocation") {
  const auto before = resident_bytes();
  {
    std::vector<char> block(64 * MiB, 1);
    CHECK(resident_bytes() >= before + 60 * MiB);
  }
  CHECK(peak_resident_bytes() >= before + 60 * MiB);
  if (reset_peak_resident()) CHECK(peak_resident_bytes() < before + 60 * MiB);
}

namespace {
int one() { return 1; }
int two() { return 2; }
// In pages that the loader writes.
const std::array<int (*)(), 2> relocated{one, two};
}  // namespace

// Mistake caught: pages that are kept; pages given back that the loader or the program wrote, which would be those of the file again.
TEST_CASE("pages of libraries are given back, and come again as they were") {
  const std::string text = std::regex_replace(std::string("warm"), std::regex("w"), "s");
  static int written = 0;
  written = 7;
  const auto before = resident_bytes();
  give_back_pages_of_libraries();
  const auto after = resident_bytes();
  MESSAGE((before >> 10), " KiB before, ", (after >> 10), " KiB after");
  CHECK(after + (1 << 20) <= before);
  CHECK(relocated[0]() + relocated[1]() == 3);
  CHECK(written == 7);
  CHECK(std::regex_replace(text, std::regex("s"), "w") == "warm");
  CHECK_THROWS_AS(std::stoi("no number"), std::invalid_argument);
}

TEST_CASE("threads are counted") {
  const int before = thread_count();
  std::jthread other([](const std::stop_token& token) {
    while (!token.stop_requested()) std::this_thread::yield();
  });
  CHECK(thread_count() == before + 1);
}

TEST_CASE("version 2: the tightest limit of all levels counts") {
  FakeRoot root;
  root.write("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n");
  root.write("proc/self/cgroup", "0::/user/run\n");
  root.write("proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable:   900000 kB\n");
  root.write("sys/fs/cgroup/user/run/memory.max", "max\n");
  CHECK_FALSE(memory_cgroup(root.path));
  CHECK(free_memory(root.path) == 900000 * 1024ull);
  root.write("sys/fs/cgroup/user/memory.max", "536870912\n");
  root.write("sys/fs/cgroup/user/memory.current", "104857600\n");
  root.write("sys/fs/cgroup/user/memory.stat", "anon 1\ninactive_file 4857600\n");
  const auto found = memory_cgroup(root.path);
  REQUIRE(found);
  CHECK(found->version == 2);
  CHECK(found->limit == 512 * MiB);
  CHECK(found->used == 104857600);
  CHECK(found->reclaimable == 4857600);
  CHECK(free_memory(root.path) == 512 * MiB - 100000000);
}

TEST_CASE("version 1, seen from inside a container whose mount shows only its own part") {
  FakeRoot root;
  root.write("proc/self/mountinfo", "41 30 0:35 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n42 30 0:36 / /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n");
  root.write("proc/self/cgroup", "9:cpu:/docker/abc\n4:memory:/docker/abc/inner\n0::/\n");
  root.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n");
  root.write("sys/fs/cgroup/memory/memory.usage_in_bytes", "1000\n");
  root.write("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 400\n");
  root.write("sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "9223372036854771712\n");
  const auto found = memory_cgroup(root.path);
  REQUIRE(found);
  CHECK(found->version == 1);
  CHECK(found->limit == 1024 * MiB);
  CHECK(found->reclaimable == 400);
  root.write("sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "1048576\n");
  CHECK(memory_cgroup(root.path)->limit == MiB);
}

TEST_CASE("a machine without cgroups, or with unreadable ones, has no limit") {
  FakeRoot root;
  CHECK_FALSE(memory_cgroup(root.path));
  root.write("proc/self/mountinfo", "nonsense\n1 2 - cgroup2\n");
  root.write("proc/self/cgroup", "nonsense\n");
  CHECK_FALSE(memory_cgroup(root.path));
  CHECK(free_memory(root.path) == 0);
  CHECK(free_memory() > 0);
}
