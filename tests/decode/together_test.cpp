// Many clips at once: the pixels do not depend on the number of threads, and a decoder starts none of its own.
#include "support.hpp"

#include <atomic>
#include <iterator>
#include <thread>

#include <unistd.h>

using namespace sluice;
using namespace sluice::testing;
namespace fs = std::filesystem;

TEST_CASE("1, 2, 3 and 7 threads decode the same bytes, from one recipe") {
  const ScratchFolder folder;
  const auto path = make_video(folder.path() / "v.mp4", "-c:v libx264 -pix_fmt yuv420p -g 12 -bf 2");
  const auto all = ffmpeg_frames(path);
  for (const std::string name : {"decode.ffmpeg", "decode.opencv"}) {
    auto decoder = built(name);
    decoder.prepare({.cache_dir = (folder.path() / "cache").string()});
    for (const int workers : {1, 2, 3, 7}) {
      std::atomic<int> next = 0, wrong = 0;
      {
        std::vector<std::jthread> threads;
        for (int w = 0; w < workers; ++w)
          threads.emplace_back([&] {
            for (int i; (i = next++) < 21;) {
              const Numbers frames = {i, (i * 7) % 50, (i * 13 + 5) % 50};
              wrong += !difference(decoded(decoder, path, frames), frames, all, 96 * 64 * 3).empty();
            }
          });
      }
      CAPTURE(name);
      CAPTURE(workers);
      CHECK(wrong == 0);
    }
  }
}

// Catches: libav taking as many threads as the machine has processors for each clip. Sampled while three clips are decoded.
// OpenCV cannot be kept from it; it is kept to one capture at a time, and declares them.
TEST_CASE("decode.ffmpeg has the threads that call it and no other, decode.opencv those of one capture") {
  const ScratchFolder folder;
  const auto path = make_video(folder.path() / "v.mp4", "-c:v libx264 -pix_fmt yuv420p -preset ultrafast", "640x360", 4);
  const auto threads = [] { return std::distance(fs::directory_iterator("/proc/self/task"), {}); };
  for (const std::string name : {"decode.ffmpeg", "decode.opencv"}) {
    auto decoder = built(name);
    const auto before = threads();
    std::atomic<int> done = 0;
    std::int64_t most = 0;
    std::vector<std::jthread> work;
    for (int i = 0; i < 3; ++i)
      work.emplace_back([&] {
        static_cast<void>(decoded(decoder, path, {1, 50, 99}));
        ++done;
      });
    while (done < 3) {
      most = std::max<std::int64_t>(most, threads());
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    CAPTURE(name);
    CHECK(most <= before + 3 + (name == "decode.opencv" ? sysconf(_SC_NPROCESSORS_ONLN) : 0));
  }
}
