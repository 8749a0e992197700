// source.motion8 as files: what is encoded is what was drawn, made once, the same every time, whatever interrupts it.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "../../plugins/source/motion8_scene.hpp"
#include "../support/plugin_host.hpp"
#include "../support/scratch_folder.hpp"
#include "../support/sequential_decode.hpp"

using namespace sluice;
using namespace sluice::testing;
namespace fs = std::filesystem;

namespace {

std::string bytes_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
// Relative name -> bytes of every mp4 below a folder.
std::map<std::string, std::string> videos_of(const fs::path& folder) {
  std::map<std::string, std::string> out;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.path().extension() == ".mp4") out[fs::relative(entry.path(), folder).string()] = bytes_of(entry.path());
  return out;
}
std::size_t count_parts(const fs::path& folder) {
  std::size_t n = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) n += entry.path().extension() == ".part";
  return n;
}
Recipe motion8_at(const fs::path& root, int train = 24, int val = 8, int quality = 10) {
  return built("source.motion8", {{"root", root.string()}, {"train", train}, {"val", val}, {"quality", quality}});
}
// Lists in a child process, after `before`; the child's exit status is 0 when it worked, else the error's code.
template <class Function> pid_t list_in_child(const Recipe& recipe, Function before) {
  const pid_t child = fork();
  if (child != 0) return child;
  before();
  int status = 0;
  try {
    static_cast<void>(recipe.list());
  } catch (const Error& error) {
    status = static_cast<int>(error.code());
  }
  _exit(status);
}
int status_of(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

}  // namespace

TEST_CASE("the listing: eight classes in turn, train and val, files that exist") {
  const ScratchFolder folder;
  const auto listed = motion8_at(folder.path()).list();
  CHECK(listed.classes == std::vector<std::string>{"left", "right", "up", "down", "up_left", "up_right", "down_left", "down_right"});
  REQUIRE(listed.items.size() == 32);
  CHECK(listed.rejects.empty());
  for (std::size_t i = 0; i < listed.items.size(); ++i) {
    const auto& item = listed.items[i];
    CHECK(item.split == (i < 24 ? abi::Split::train : abi::Split::val));
    CHECK(item.label == static_cast<std::int64_t>(i % 8));
    CHECK(fs::is_regular_file(item.streams.at("clip")));
    CHECK(fs::path(item.streams.at("clip")).parent_path().filename() == listed.classes[static_cast<std::size_t>(item.label)]);
  }
}

// Catches: planes swapped or shifted on the way into the encoder, frames lost or out of order, and a codec that is none.
TEST_CASE("the files are H.264 with I, P and B frames, and hold what was drawn") {
  const ScratchFolder folder;
  for (const int quality : {10, 0}) {
    CAPTURE(quality);
    const auto listed = motion8_at(folder.path(), 8, 0, quality).list();
    double luma_off = 0, chroma_off = 0, samples = 0;
    for (std::size_t i = 0; i < listed.items.size(); ++i) {
      const auto file = decode_all(listed.items[i].streams.at("clip"));
      CHECK(file.codec == "h264");
      CHECK(file.rate == 25);
      REQUIRE(file.frames.size() == 24);
      std::string types;
      for (const auto& frame : file.frames) types += frame.type;
      CHECK(types[0] == 'I');
      CHECK(types[12] == 'I');
      CHECK(std::count(types.begin(), types.end(), 'I') == 2);
      CHECK(std::count(types.begin(), types.end(), 'P') >= 6);
      CHECK((std::count(types.begin(), types.end(), 'B') >= 8) == (quality != 0));
      const auto scene = motion8::make_scene(8, false, i, 64);
      motion8::Planes drawn;
      for (std::int64_t t = 0; t < 24; ++t) {
        motion8::draw(scene, t, drawn);
        const auto& planes = file.frames[static_cast<std::size_t>(t)].planes;
        for (std::size_t k = 0; k < drawn.luma.size(); ++k) luma_off += std::abs(planes[0][k] - drawn.luma[k]), ++samples;
        for (std::size_t k = 0; k < drawn.blue.size(); ++k) chroma_off += std::abs(planes[1][k] - drawn.blue[k]) + std::abs(planes[2][k] - drawn.red[k]);
      }
    }
    CHECK(luma_off / samples <= (quality == 0 ? 0.0 : 0.6));
    CHECK(chroma_off / samples <= (quality == 0 ? 0.0 : 0.6));
  }
}

// What a frame's coding error could tell: it is a little larger behind the patch, where background was uncovered, than
// ahead of it. At the default quality that is a fiftieth of a grey level, far below what 8 bits hold.
TEST_CASE("coding errors do not show the direction") {
  const ScratchFolder folder;
  const auto listed = motion8_at(folder.path(), 80, 0).list();
  double ahead = 0, behind = 0, pixels_ahead = 0, pixels_behind = 0;
  for (std::size_t i = 0; i < listed.items.size(); ++i) {
    const auto file = decode_all(listed.items[i].streams.at("clip"));
    const auto scene = motion8::make_scene(8, false, i, 64);
    const double speed = std::hypot(scene.velocity.x, scene.velocity.y), radius = static_cast<double>(scene.radius) / 256;
    motion8::Planes drawn;
    for (std::int64_t t = 0; t < 24; ++t) {
      motion8::draw(scene, t, drawn);
      const double cx = static_cast<double>(scene.start.x + t * scene.velocity.x) / 256, cy = static_cast<double>(scene.start.y + t * scene.velocity.y) / 256;
      const auto near = [](double d) { return d - 64 * std::floor((d + 32) / 64); };
      for (int y = 0; y < 64; ++y)
        for (int x = 0; x < 64; ++x) {
          const double dx = near(x - cx), dy = near(y - cy), r = std::hypot(dx, dy);
          const double along = (dx * static_cast<double>(scene.velocity.x) + dy * static_cast<double>(scene.velocity.y)) / speed;
          if (r < radius * 0.8 || r > radius + 4 || std::abs(along) < radius / 2) continue;
          const auto k = static_cast<std::size_t>(y * 64 + x);
          const double off = std::abs(file.frames[static_cast<std::size_t>(t)].planes[0][k] - drawn.luma[k]);
          (along > 0 ? ahead : behind) += off, ++(along > 0 ? pixels_ahead : pixels_behind);
        }
    }
  }
  const double difference = behind / pixels_behind - ahead / pixels_ahead;
  MESSAGE("coding error behind the patch less ahead of it, in grey levels: " << difference);
  CHECK(std::abs(difference) < 0.05);
}

// Catches: bytes that depend on the number of workers, the time, the folder, or what else was made with them.
TEST_CASE("two generations give the same bytes, and the second listing makes nothing") {
  const ScratchFolder one, two;
  static_cast<void>(motion8_at(one.path(), 24, 8).list({.workers = 1}));
  static_cast<void>(motion8_at(two.path(), 16, 8).list({.workers = 3}));
  const auto before = fs::last_write_time(two.path());
  static_cast<void>(motion8_at(two.path(), 24, 8).list({.workers = 7}));  // grows the set that is there
  CHECK(fs::last_write_time(two.path()) == before);                       // same folder in it
  const auto videos = videos_of(one.path());
  CHECK(videos.size() == 32);
  CHECK(videos == videos_of(two.path()));

  const auto newest = [&] {
    fs::file_time_type latest{};
    for (const auto& entry : fs::recursive_directory_iterator(one.path())) latest = std::max(latest, entry.last_write_time());
    return latest;
  };
  const auto made = newest();
  const auto start = std::chrono::steady_clock::now();
  static_cast<void>(motion8_at(one.path(), 24, 8).list());
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::milliseconds(200));
  CHECK(newest() == made);
}

TEST_CASE("a killed generation is taken up where it stopped, and damaged files are made again") {
  const ScratchFolder clean, folder;
  static_cast<void>(motion8_at(clean.path(), 48, 0).list());
  const auto expected = videos_of(clean.path());
  const auto recipe = motion8_at(folder.path(), 48, 0);
  for (const std::size_t stop_after : {3u, 9u, 20u}) {
    const pid_t child = list_in_child(recipe, [] {});
    while (videos_of(folder.path()).size() < stop_after) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    kill(child, SIGKILL);
    CHECK(status_of(child) == 1000 + SIGKILL);
    for (const auto& [name, bytes] : videos_of(folder.path())) CHECK(bytes == expected.at(name));  // never half a file
  }
  auto set = fs::directory_iterator(folder.path())->path();
  const auto there = videos_of(folder.path());
  std::ofstream(folder.path() / there.begin()->first, std::ios::trunc);  // what a power cut leaves: nothing, or zeros
  std::ofstream(folder.path() / std::next(there.begin())->first, std::ios::trunc) << std::string(std::next(there.begin())->second.size(), '\0');
  static_cast<void>(recipe.list());
  CHECK(videos_of(folder.path()) == expected);

  const auto last = folder.path() / expected.rbegin()->first;
  fs::resize_file(last, fs::file_size(last) - 1);
  fs::remove(folder.path() / expected.begin()->first);
  static_cast<void>(recipe.list());
  CHECK(videos_of(folder.path()) == expected);
  CHECK(fs::exists(set / "files.txt"));
}

// Catches: two processes that write the same file, and a second one that starts with half a set.
TEST_CASE("processes that start at the same time share one generation") {
  const ScratchFolder clean, folder;
  static_cast<void>(motion8_at(clean.path(), 32, 8).list());
  const auto recipe = motion8_at(folder.path(), 32, 8);
  const pid_t children[] = {list_in_child(recipe, [] {}), list_in_child(recipe, [] {}), list_in_child(recipe, [] {})};
  for (const auto child : children) CHECK(status_of(child) == 0);
  CHECK(videos_of(folder.path()) == videos_of(clean.path()));
  CHECK(count_parts(folder.path()) == 0);
}

TEST_CASE("a disk that takes no more, a folder that cannot be made, a size that is odd") {
  const ScratchFolder folder;
  const auto recipe = motion8_at(folder.path());
  const pid_t child = list_in_child(recipe, [] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit small{2000, 2000};  // every file is larger
    setrlimit(RLIMIT_FSIZE, &small);
  });
  CHECK(status_of(child) == static_cast<int>(Code::io));
  CHECK(count_parts(folder.path()) == 0);
  CHECK(videos_of(folder.path()).empty());
  static_cast<void>(recipe.list());
  CHECK(videos_of(folder.path()).size() == 32);

  std::ofstream(folder.path() / "file") << "x";
  const auto message = [](const Recipe& broken) {
    try {
      static_cast<void>(broken.list());
    } catch (const Error& error) {
      CHECK(error.code() == Code::io);
      return error.message();
    }
    return std::string();
  };
  CHECK(message(motion8_at(folder.path() / "file")).find("cannot make the folder") == 0);
  CHECK_THROWS_AS(static_cast<void>(built("source.motion8", {{"size", 63}})), Error);
}
