// Files that are whole or absent, on the machine's own disk and on one that fails.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include <sys/stat.h>

#include "framework/state/files.hpp"
#include "simulated_disk.hpp"
#include "../support/scratch_folder.hpp"

#include <sluice/error.hpp>

namespace fs = std::filesystem;
using namespace sluice;
using sluice::testing::SimulatedDisk;
using sluice::testing::ScratchFolder;

TEST_CASE("a file is replaced whole, with any name") {
  const ScratchFolder folder;
  for (const std::string name : {"plain", "with space", "\xe8\xa7\x86\xe9\xa2\x91", "not-utf8-\xff\xfe", "line\nbreak"}) {
    const auto path = folder.path() / name;
    for (const std::size_t size : {0, 1, 100000}) {
      write_file(system_disk(), path, std::string(size, 'x'));
      CHECK(read_file(system_disk(), path, 1 << 20) == std::string(size, 'x'));
    }
  }
  CHECK(list_folder(system_disk(), folder.path()).size() == 5);
}

TEST_CASE("writing a file: the n-th call fails, for every n: the old text or the new one") {
  // Catches an error that leaves half a file or a `.tmp` beside it.
  for (const int error : {EIO, ENOSPC, EINTR}) {
    for (std::int64_t n = 1;; ++n) {
      CAPTURE(error);
      CAPTURE(n);
      SimulatedDisk disk;
      write_file(disk, "file", "old");
      disk.fail_at(n, {.error = error});
      bool done = true;
      try {
        write_file(disk, "file", "newer");
      } catch (const Error& caught) {
        done = false;
        CHECK(error != EINTR);
        CHECK(caught.code() == Code::io);
        CHECK((caught.where().find("file") != std::string::npos || caught.where() == "."));
      }
      const bool reached = disk.failed().has_value();
      disk.heal();
      const auto text = read_file(disk, "file", 100);
      CHECK((done ? text == "newer" : text == "old" || text == "newer"));
      CHECK(disk.open_files() == 0);
      if (!reached) break;
    }
  }
}

TEST_CASE("what is no file is refused at once, by its path") {
  // Catches a FIFO that hangs the program, and a folder read as an empty file.
  const ScratchFolder folder;
  const auto fifo = folder.path() / "fifo";
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  CHECK_THROWS_WITH_AS(InputFile(system_disk(), fifo), doctest::Contains("no regular file"), Error);
  CHECK_THROWS_WITH_AS(InputFile(system_disk(), folder.path()), doctest::Contains("directory"), Error);
  CHECK_THROWS_WITH_AS(InputFile(system_disk(), folder.path() / "none"), doctest::Contains((folder.path() / "none").c_str()), Error);
  CHECK_THROWS_AS(InputFile(system_disk(), "/dev/zero"), Error);
  write_file(system_disk(), folder.path() / "five", "12345");
  CHECK_THROWS_WITH_AS(static_cast<void>(read_file(system_disk(), folder.path() / "five", 4)), doctest::Contains("5 bytes"), Error);
  const InputFile file(system_disk(), folder.path() / "five");
  std::byte bytes[4];
  CHECK_THROWS_WITH_AS(file.read(3, bytes), doctest::Contains("2 bytes are missing"), Error);
}

TEST_CASE("folders are made with their parents and removed with their files") {
  const ScratchFolder folder;
  make_folders(system_disk(), folder.path() / "a" / "b" / "c");
  make_folders(system_disk(), folder.path() / "a" / "b" / "c");
  write_file(system_disk(), folder.path() / "a" / "b" / "c" / "x", "1");
  CHECK_THROWS_AS(make_folders(system_disk(), folder.path() / "a" / "b" / "c" / "x" / "y"), Error);
  remove_folder(system_disk(), folder.path() / "a" / "b" / "c");
  remove_folder(system_disk(), folder.path() / "a" / "b" / "c");
  CHECK_FALSE(fs::exists(folder.path() / "a" / "b" / "c"));
  CHECK(list_folder(system_disk(), folder.path() / "a" / "b" / "c").empty());
}
