// A decoder that finds no memory, at whichever allocation of its own or of libav's: the frames are right or the call says that memory was
// short. It never takes a whole file for a damaged one, and never a part of it for all.
#include "tests/support/failing_malloc.hpp"

#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "support.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

struct Tried {
  std::int64_t allocations = 0, refused = 0;  // each failed once; so often the call said that there was no memory
};

// `call` gives what came out, or throws.
template <class T> Tried each_fails_once(const std::function<T()>& call, const T& expected, bool keeps_nothing, std::size_t of_at_least) {
  Tried tried;
  long live = 0;
  for (std::int64_t n = 1;; ++n) {
    CAPTURE(n);
    bool fired = false, done = false;
    std::string error;
    std::optional<T> got;
    {
      const FailingMalloc failing(n, of_at_least);
      try {
        got = call();
        done = true;
      } catch (const Error& what) {
        error = what.what();
        CHECK_MESSAGE(what.code() == Code::memory, error);
      } catch (const std::bad_alloc&) {
        error = "of the test's own side of the boundary";
      }
      fired = failing.fired();
    }
    if (got) CHECK(*got == expected);
    got.reset();
    if (n == 2) live = FailingMalloc::live();
    else if (keeps_nothing && n > 2) CHECK(FailingMalloc::live() - live < 2048);  // over all calls
    if (!fired) {
      REQUIRE(error == "");
      return tried;
    }
    tried.allocations = n;
    tried.refused += !done;
    REQUIRE(n < 50000);
  }
}

struct Kind {
  const char* name;
  const char* codec;
  // avcodec_open2() of FFmpeg 5.1 reads through a null pointer where its copy of a bitstream filter's name finds no memory: 21 bytes.
  std::size_t of_at_least;
};
// Not VP9: its avcodec_close() frees through a null pointer where its opening had found no memory.
const std::vector<Kind> kinds{{"plain.mp4", "-c:v libx264 -pix_fmt yuv420p -bf 2 -g 6", 0}, {"mpeg4.avi", "-c:v mpeg4 -bf 2 -g 6", 32}};

}  // namespace

// G22 of the promises. Mistakes caught: a frame that was concealed for want of memory and counts as decoded, a want of memory that is told as
// damage and drops the sample for good, bytes that stay with a call that failed. Planted: with_memory() that
// looks at the status alone: of these two files 352 calls said damage, and 47 gave other pictures without a word.
TEST_CASE("whichever allocation of a decode fails: the same frames, or a want of memory that is told as one, and no byte stays") {
  const ScratchFolder folder;
  for (const auto& kind : kinds) {
    CAPTURE(kind.name);
    const auto path = make_video(folder.path() / kind.name, kind.codec, "48x32", 0.5);
    auto decoder = built("decode.ffmpeg", {{"short_side", 24}});
    const Numbers frames{1, 4, 9};
    const Bytes expected = decoded(decoder, path, frames);  // its index is made here
    const auto tried = each_fails_once<Bytes>([&] { return decoded(decoder, path, frames); }, expected, true, kind.of_at_least);
    CHECK(tried.allocations > 50);
    CHECK(tried.refused > tried.allocations / 2);
    CHECK(decoded(decoder, path, frames) == expected);
    MESSAGE(std::string(kind.name), ": each of ", tried.allocations, " allocations of a decode failed once, ", tried.refused, " of them were told");
  }
}

// Mistakes caught: an index that ends where memory did, which would hide the frames behind it from every run to come; a file that is called cut off.
TEST_CASE("whichever allocation fails while a file is indexed: the same header, or a want of memory that is told as one") {
  const ScratchFolder folder;
  for (const auto& kind : kinds) {
    CAPTURE(kind.name);
    const auto path = make_video(folder.path() / kind.name, kind.codec, "48x32", 0.5);
    auto decoder = built("decode.ffmpeg");
    const auto numbers = [&](const std::filesystem::path& of) {
      const auto header = decoder.probe(of.string());
      return std::vector<double>{static_cast<double>(header.frames), static_cast<double>(header.width), static_cast<double>(header.height), header.rate, header.variable_rate ? 1.0 : 0.0};
    };
    const auto expected = numbers(path);
    std::int64_t made = 0;
    const auto tried = each_fails_once<std::vector<double>>([&] {
      // Indices are kept by path and time of change.
      std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::time_point(std::chrono::seconds(1'000'000 + ++made)));
      return numbers(path);
    }, expected, false, kind.of_at_least);
    CHECK(tried.allocations > 50);
    CHECK(numbers(path) == expected);
    MESSAGE(std::string(kind.name), ": each of ", tried.allocations, " allocations of an indexing failed once, ", tried.refused, " of them were told");
  }
}
