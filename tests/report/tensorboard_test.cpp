// Event files against the real `tensorboard` package: scalars, texts, images, a resume, a file cut by a kill.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "../support/scratch_folder.hpp"
#include "framework/report/tensorboard.hpp"

#include <sluice/error.hpp>

namespace fs = std::filesystem;
using namespace sluice;
using sluice::testing::ScratchFolder;

namespace {

// A PNG of one red pixel.
std::string red_pixel() {
  static const unsigned char bytes[] = {0x89, 'P', 'N', 'G', 0x0D, 0x0A, 0x1A, 0x0A, 0, 0, 0, 13, 'I', 'H', 'D', 'R', 0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0, 0x90, 0x77, 0x53, 0xDE,
                                        0, 0, 0, 12, 'I', 'D', 'A', 'T', 0x08, 0xD7, 0x63, 0xF8, 0xCF, 0xC0, 0, 0, 0x03, 0x01, 0x01, 0, 0x18, 0xDD, 0x8D, 0xB0,
                                        0, 0, 0, 0, 'I', 'E', 'N', 'D', 0xAE, 0x42, 0x60, 0x82};
  return {reinterpret_cast<const char*>(bytes), sizeof bytes};
}

}  // namespace

TEST_CASE("the real tensorboard package reads what was written") {
  // Catches a wrong checksum, field number or wire type, and a resume whose old events stay beside the new.
  const ScratchFolder folder;
  {
    EventWriter writer(folder.path() / "first", std::nullopt);
    for (std::int64_t step = 1; step <= 300; ++step) writer.scalar("train/loss", step, 1.0 / static_cast<double>(step));
    writer.scalar("odd values", 0, std::nan(""));
    writer.scalar("odd values", std::int64_t{1} << 40, INFINITY);
    writer.scalar("odd values", (std::int64_t{1} << 40) + 1, 1e-42);
    writer.text("pipeline", 0, "```toml\nname = \"\xe8\xa7\x86\"\n```");
    writer.image("sheet", 7, red_pixel(), 1, 1);
    writer.text("long", 3, std::string(100000, 'x'));
  }
  {
    // A run to step 20, killed in the middle of a record, resumed from step 10 within the same second, then again from 15.
    fs::path cut;
    {
      EventWriter writer(folder.path() / "resumed", std::nullopt);
      for (std::int64_t step = 1; step <= 20; ++step) writer.scalar("loss", step, 1);
      cut = writer.file();
    }
    fs::resize_file(cut, fs::file_size(cut) - 9);
    {
      EventWriter writer(folder.path() / "resumed", 11);
      CHECK(writer.file().filename().string() > cut.filename().string());
      for (std::int64_t step = 11; step <= 18; ++step) writer.scalar("loss", step, 2);
    }
    EventWriter writer(folder.path() / "resumed", 16);
    for (std::int64_t step = 16; step <= 20; ++step) writer.scalar("loss", step, 3);
  }
  CHECK(std::system(("'" SLUICE_SOURCE_DIR "/.venv/bin/python3' '" SLUICE_SOURCE_DIR "/tests/report/tensorboard_peer.py' '" + folder.path().string() + "'").c_str()) == 0);
}

TEST_CASE("names sort in the order of writing, whatever the clock says") {
  // Catches a clock that was set back: tensorboard would read the new file first and drop it.
  const ScratchFolder folder;
  std::ofstream(folder.path() / "events.out.tfevents.4000000000.host.1.0") << "";
  const EventWriter first(folder.path(), std::nullopt);
  const EventWriter second(folder.path(), 1);
  CHECK(first.file().filename().string().find("events.out.tfevents.4000000001.") == 0);
  CHECK(second.file().filename().string().find("events.out.tfevents.4000000002.") == 0);
}

TEST_CASE("a file that cannot be written is an error with its path") {
  const ScratchFolder folder;
  std::ofstream(folder.path() / "taken") << "x";
  CHECK_THROWS_AS(EventWriter(folder.path() / "taken", std::nullopt), Error);
}
