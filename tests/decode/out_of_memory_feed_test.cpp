// The real decoder in the real flow, with an allocation of its call that fails: the sample comes all the same, and every byte goes back.
#include "tests/support/failing_malloc.hpp"

#include <dlfcn.h>

#include <atomic>
#include <cstdlib>
#include <string>

#include <doctest/doctest.h>

#include "tests/support/fake_videos.hpp"
#include "tests/support/make_video.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

const abi::Descriptor& ffmpeg_decoder() {
  void* handle = dlopen(SLUICE_BINARY_DIR "/lib/sluice/plugins/decode.ffmpeg.so", RTLD_NOW | RTLD_LOCAL);
  REQUIRE(handle != nullptr);
  const auto entry = reinterpret_cast<const abi::PluginTable* (*)()>(dlsym(handle, abi::entry_point));
  REQUIRE((entry != nullptr));
  return **entry()->begin;
}

// The decoder's own call, the first of which after arm(n) meets the n-th allocation that fails.
struct Starved {
  static inline const abi::StageTable* real = nullptr;
  static inline std::atomic<std::int64_t> next = 0;
  static inline std::atomic<bool> fired = false;
  static inline std::atomic<int> calls = 0;

  static void arm(std::int64_t n) { next = n, fired = false, calls = 0; }
  static int run(void* recipe, abi::Sample* sample, const abi::RandomKey* key, abi::Failure* failure) {
    ++calls;
    const FailingMalloc failing(next.exchange(0));
    const bool armed = !failing.fired();
    const int status = real->run(recipe, sample, key, failure);
    if (armed && failing.fired()) fired = true;
    return status;
  }
};

}  // namespace

// G22 of the promises. Mistakes caught: a sample that is dropped for want of memory, a block of the pool or a lease that stays with the call
// that failed, a list of the pool that cannot grow and ends the process.
TEST_CASE("an allocation of a decode fails inside the flow: the call is made again, the batches are the same, leases and pool are empty") {
  const ScratchFolder folder;
  make_video(folder.path() / "v.mp4", "testsrc2=rate=25:duration=0.5:size=48x32", "-c:v libx264 -preset veryfast -g 6 -bf 2 -pix_fmt yuv420p");
  Bench bench([&](Listing& listing) {
    for (int i = 0; i < 3; ++i) {
      Entry entry;
      entry.streams.emplace_back("clip", (folder.path() / "v.mp4").string());
      entry.label = i;
      listing.add(entry);
    }
  });
  bench.frames<FakeFrames>();
  const auto& decoder = ffmpeg_decoder();
  abi::StageTable table = *decoder.stage;
  Starved::real = decoder.stage;
  table.run = &Starved::run;
  abi::Descriptor starved = decoder;
  starved.stage = &table;
  bench.plugin(starved);
  const Feed::Options how{.workers = 2, .batch_size = 3, .seed = 3};
  const Run first = bench.run(how, {Phase{}});
  REQUIRE(first.error == "");
  REQUIRE(first.finished == 3);
  std::int64_t n = 1, again = 0;
  for (bool fired = true; fired; n += 3) {
    CAPTURE(n);
    Starved::arm(n);
    const Run other = bench.run(how, {Phase{}});
    fired = Starved::fired;
    CHECK(other.error == "");
    CHECK(other.failed == 0);
    CHECK(other.digest == first.digest);
    CHECK(bench.left_over == 0);
    again += Starved::calls == 4;
  }
  CHECK(n > 60);
  CHECK(again > n / 6);  // of every third
  MESSAGE("allocations up to the ", n - 3, "-th of a decode failed, every third of them, and ", again, " of the calls were made again");
}
