// One run a folder; a lock dies with its process.
#include <doctest/doctest.h>

#include <csignal>
#include <fstream>
#include <string>

#include <sys/wait.h>
#include <unistd.h>

#include "framework/state/lock.hpp"
#include "../support/scratch_folder.hpp"

#include <sluice/error.hpp>

using namespace sluice;
using sluice::testing::ScratchFolder;

TEST_CASE("a second run in the folder is told who holds it") {
  // Catches two runs that overwrite each other's checkpoints.
  const ScratchFolder folder;
  const auto dir = folder.path() / "new" / "run";
  {
    const RunLock lock(dir);
    try {
      const RunLock second(dir);
      FAIL("locked twice");
    } catch (const Error& error) {
      CHECK(error.code() == Code::configuration);
      CHECK(error.where() == dir.string());
      CHECK(error.message().find("process " + std::to_string(::getpid()) + " on ") != std::string::npos);
      CHECK(error.message().find(", since 20") != std::string::npos);
      CHECK(error.hint().find("run.dir") != std::string::npos);
    }
    const RunLock elsewhere(folder.path() / "other");
  }
  CHECK_NOTHROW(RunLock{dir});
}

TEST_CASE("the lock of a process ended by SIGKILL is no obstacle, whatever its file says") {
  const ScratchFolder folder;
  int ready[2];
  REQUIRE(::pipe(ready) == 0);
  const auto child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const RunLock lock(folder.path());
    static_cast<void>(::write(ready[1], "x", 1) < 0);
    for (;;) ::pause();
  }
  char byte = 0;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  CHECK_THROWS_WITH_AS(RunLock{folder.path()}, doctest::Contains(("process " + std::to_string(child)).c_str()), Error);
  ::kill(child, SIGKILL);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(std::filesystem::exists(folder.path() / "lock"));
  CHECK_NOTHROW(RunLock{folder.path()});
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_CASE("a program started by the run does not inherit the lock") {
  // Catches a descriptor without O_CLOEXEC: an encoder that outlives a killed run would hold its folder.
  const ScratchFolder folder;
  auto lock = std::make_unique<RunLock>(folder.path());
  const auto child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::execl("/bin/sleep", "sleep", "20", nullptr);
    ::_exit(127);
  }
  ::usleep(200'000);
  lock.reset();
  CHECK_NOTHROW(RunLock{folder.path()});
  ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
}

// Catches a run that writes its checkpoints into another run's folder, and deletes that one's.
TEST_CASE("a folder that took the name of the locked one is not taken for it") {
  const ScratchFolder folder;
  const auto dir = folder.path() / "run";
  const RunLock lock(dir);
  CHECK_NOTHROW(lock.check());
  std::filesystem::rename(dir, folder.path() / "moved");
  CHECK_NOTHROW(lock.check());  // nothing is there that could be harmed
  const RunLock other(dir);
  CHECK_NOTHROW(other.check());
  try {
    lock.check();
    FAIL("another folder is taken for its own");
  } catch (const Error& error) {
    CHECK(error.code() == Code::io);
    CHECK(error.where() == dir.string());
  }
}

TEST_CASE("a link in the place of the lock is not followed") {
  const ScratchFolder folder;
  std::ofstream(folder.path() / "precious") << "text";
  std::filesystem::create_symlink("precious", folder.path() / "lock");
  CHECK_THROWS_AS(RunLock{folder.path()}, Error);
  CHECK(std::filesystem::file_size(folder.path() / "precious") == 4);
}
