// What OpenCV takes by itself while it scales a frame, counted: it must be no more than out() declares as scratch, or the
// budget of host memory would be a guess.
#include "support.hpp"

#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <new>

namespace {
std::atomic<bool> counting = false;
std::atomic<std::int64_t> live = 0, most = 0;

void* counted(std::size_t bytes) {
  void* block = std::malloc(bytes);
  if (!block) throw std::bad_alloc();
  if (counting) {
    const auto now = live += static_cast<std::int64_t>(malloc_usable_size(block));
    if (now > most) most = now;
  }
  return block;
}
void uncounted(void* block) {
  if (counting && block) live -= static_cast<std::int64_t>(malloc_usable_size(block));
  std::free(block);
}
}  // namespace

void* operator new(std::size_t bytes) { return counted(bytes); }
void* operator new[](std::size_t bytes) { return counted(bytes); }
void operator delete(void* block) noexcept { uncounted(block); }
void operator delete[](void* block) noexcept { uncounted(block); }
void operator delete(void* block, std::size_t) noexcept { uncounted(block); }
void operator delete[](void* block, std::size_t) noexcept { uncounted(block); }

using namespace sluice;
using namespace sluice::testing;

TEST_CASE("scratch covers what OpenCV takes") {
  double tightest = 1e9;
  for (const auto& [from_height, from_width] : std::vector<std::array<std::int64_t, 2>>{{1080, 1920}, {240, 320}, {64, 64}, {1920, 1080}})
    for (const auto& [height, width] : std::vector<std::array<std::int64_t, 2>>{{128, 171}, {112, 112}, {480, 640}, {1, 1}, {2160, 3840}})
      for (const std::string how : {"auto", "area", "linear", "cubic", "nearest"}) {
        const auto stage = built("augment.resize", {{"size", std::vector<std::int64_t>{height, width}}, {"interpolation", how}});
        const auto scratch = stage.out(Info::video(1, from_height, from_width)).scratch;
        struct Host {
          std::vector<std::uint8_t> in, made;
          std::int64_t shape[4];
        } host{std::vector<std::uint8_t>(static_cast<std::size_t>(from_height * from_width * 3), 9), std::vector<std::uint8_t>(static_cast<std::size_t>(height * width * 3)), {1, from_height, from_width, 3}};
        const abi::Text on = {"clip", 4};
        abi::Sample sample{sizeof(abi::Sample), 1, 0, 0, &host, &on, 1, nullptr, nullptr, nullptr, nullptr, nullptr};
        sample.take = [](void* raw, abi::Text, abi::Array* owned, abi::Failure*) {
          auto& self = *static_cast<Host*>(raw);
          *owned = {};
          owned->size = sizeof(abi::Array), owned->dtype = static_cast<std::uint8_t>(DType::u8), owned->rank = 4;
          std::copy(self.shape, self.shape + 4, owned->shape);
          owned->block = {self.in.data(), self.in.size(), nullptr, nullptr};
          return 0;
        };
        sample.put = [](void*, abi::Text, abi::Array*, abi::Failure*) { return 0; };
        sample.allocate = [](void* raw, std::uint64_t bytes, abi::Block* block, abi::Failure*) {
          auto& self = *static_cast<Host*>(raw);
          if (bytes != self.made.size()) return 1;
          *block = {self.made.data(), bytes, nullptr, nullptr};
          return 0;
        };
        const abi::RandomKey key{};
        auto failure = testing::detail::no_failure();
        live = most = 0;
        counting = true;
        const int status = stage.descriptor().stage->run(stage.raw(), &sample, &key, &failure);
        counting = false;
        REQUIRE(status == 0);
        CAPTURE(how);
        CAPTURE(from_height);
        CAPTURE(height);
        CHECK(static_cast<std::uint64_t>(most.load()) <= scratch);
        if (most > 0) tightest = std::min(tightest, static_cast<double>(scratch) / static_cast<double>(most.load()));
      }
  MESSAGE("declared scratch is at least " << tightest << " times what was taken");
}

// Catches: OpenCV running its own parallel loop, on threads that nobody budgeted.
TEST_CASE("scaling starts no thread") {
  const auto threads = [] { return std::distance(std::filesystem::directory_iterator("/proc/self/task"), {}); };
  auto stage = built("augment.resize", {{"size", std::vector<std::int64_t>{1080, 1920}}, {"interpolation", "cubic"}});
  FakeSample sample;
  sample.put_noise("clip", 1, 720, 1280);
  const auto before = threads();
  stage.run(sample);
  CHECK(threads() == before);
}
