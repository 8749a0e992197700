// Every truncation and every flipped bit of a checkpoint is found out, and the one before is loaded.
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <string>

#include <sys/stat.h>

#include "checkpoint_content.hpp"
#include "framework/state/checkpoint.hpp"
#include "framework/state/files.hpp"
#include "framework/state/hash.hpp"
#include "framework/state/manifest.hpp"
#include "simulated_disk.hpp"
#include "../support/scratch_folder.hpp"

#include <sluice/error.hpp>

using namespace sluice;
using sluice::testing::KnownContent;
using sluice::testing::SimulatedDisk;
using sluice::testing::ScratchFolder;

namespace {

constexpr const char* damaged = "run/step-2";

// Two checkpoints: 1 is the one to fall back to, 2 the one to damage.
struct Pair {
  explicit Pair(int scale) : first(1, 7, 1), second(2, 7, scale), store("run", {.keep = 2}, disk) {
    store.save(first.content());
    store.save(second.content());
    for (const auto& name : list_folder(disk, damaged)) {
      files.push_back(std::string(damaged) + "/" + name);
      bytes += disk.bytes_of(files.back())->size();
    }
  }
  // Empty if the damage was found out, step 1 was loaded, and it was right.
  std::string outcome() {
    try {
      const auto found = store.newest();
      if (!found.checkpoint) return "nothing found";
      if (found.checkpoint->step() == 2) return second.difference(*found.checkpoint).empty() ? "damage not seen" : "wrong values loaded";
      if (found.refused.size() != 1 || found.refused[0].why.empty()) return "not reported";
      return first.difference(*found.checkpoint);
    } catch (const Error& error) {
      return std::string("gave up: ") + error.what();
    }
  }
  SimulatedDisk disk;
  KnownContent first, second;
  CheckpointStore store;
  std::vector<std::string> files;
  std::size_t bytes = 0;
};

struct Tally {
  std::int64_t trials = 0, wrong = 0;
  std::string first;
  void add(const std::string& what, const std::string& outcome) {
    ++trials;
    if (!outcome.empty() && wrong++ == 0) first = what + ": " + outcome;
  }
};

void flip(Pair& pair, Tally& tally, std::size_t file, std::size_t bit) {
  auto& byte = pair.disk.bytes_of(pair.files[file])->at(bit / 8);
  byte ^= static_cast<std::uint8_t>(1u << bit % 8);
  tally.add(pair.files[file] + " bit " + std::to_string(bit), pair.outcome());
  byte ^= static_cast<std::uint8_t>(1u << bit % 8);
}

Tally random_flips(Pair& pair, int trials, std::uint64_t seed) {
  Tally tally;
  std::mt19937_64 random(seed);
  for (int i = 0; i < trials; ++i) {
    auto at = random() % (pair.bytes * 8);
    std::size_t file = 0;
    while (at >= pair.disk.bytes_of(pair.files[file])->size() * 8) at -= pair.disk.bytes_of(pair.files[file++])->size() * 8;
    flip(pair, tally, file, at);
  }
  return tally;
}

Tally truncations(Pair& pair) {
  Tally tally;
  for (const auto& file : pair.files) {
    const auto whole = *pair.disk.bytes_of(file);
    for (std::size_t size = 0; size < whole.size(); ++size) {
      pair.disk.bytes_of(file)->resize(size);
      tally.add(file + " cut to " + std::to_string(size), pair.outcome());
      *pair.disk.bytes_of(file) = whole;
    }
  }
  return tally;
}

constexpr int scale_of_64_kib = 130;

}  // namespace

TEST_CASE("20,000 flipped bits: rejected, the one before is loaded") {
  // Catches a hash that is not compared, and a manifest that nothing protects.
  Pair pair(scale_of_64_kib);
  CHECK(pair.bytes > 60 * 1024);
  const auto tally = random_flips(pair, 20000, 11);
  INFO(tally.first);
  CHECK(tally.wrong == 0);
}

TEST_CASE("every single bit of a small checkpoint, and every truncation") {
  Pair pair(1);
  Tally flips;
  for (std::size_t file = 0; file < pair.files.size(); ++file)
    for (std::size_t bit = 0; bit < pair.disk.bytes_of(pair.files[file])->size() * 8; ++bit) flip(pair, flips, file, bit);
  INFO(flips.first);
  CHECK(flips.wrong == 0);
  CHECK(flips.trials > 12000);
  const auto cuts = truncations(pair);
  INFO(cuts.first);
  CHECK(cuts.wrong == 0);
}

TEST_CASE("every single bit and every truncation of 64 KiB" * doctest::test_suite("full") * doctest::skip()) {
  Pair pair(scale_of_64_kib);
  Tally flips;
  for (std::size_t file = 0; file < pair.files.size(); ++file)
    for (std::size_t bit = 0; bit < pair.disk.bytes_of(pair.files[file])->size() * 8; ++bit) flip(pair, flips, file, bit);
  MESSAGE(flips.trials << " flips");
  INFO(flips.first);
  CHECK(flips.wrong == 0);
  CHECK(flips.trials > 500000);
  const auto cuts = truncations(pair);
  MESSAGE(cuts.trials << " truncations");
  INFO(cuts.first);
  CHECK(cuts.wrong == 0);
}

TEST_CASE("bytes added, files exchanged, emptied, missing, turned into folders") {
  // Catches a check of sizes or of hashes alone, and a file that is opened by what it should be.
  Pair pair(1);
  for (const auto& file : pair.files) {
    CAPTURE(file);
    const auto whole = *pair.disk.bytes_of(file);
    pair.disk.bytes_of(file)->push_back('\n');
    CHECK(pair.outcome() == "");
    pair.disk.bytes_of(file)->clear();
    CHECK(pair.outcome() == "");
    pair.disk.bytes_of(file)->assign(whole.size(), 0);  // what a lost write leaves
    CHECK(pair.outcome() == "");
    for (const auto& other : pair.files) {
      if (other == file) continue;
      *pair.disk.bytes_of(file) = *pair.disk.bytes_of(other);
      CHECK(pair.outcome() == "");
    }
    // The same file of the other checkpoint: right in itself.
    *pair.disk.bytes_of(file) = *pair.disk.bytes_of("run/step-1" + file.substr(std::string(damaged).size()));
    CHECK(pair.outcome() == "");
    pair.disk.unlink(file);
    CHECK(pair.outcome() == "");
    pair.disk.make_folder(file);
    CHECK(pair.outcome() == "");
    pair.disk.remove_folder(file);
    write_file(pair.disk, file, std::string(whole.begin(), whole.end()));
  }
  CHECK(pair.outcome() == "damage not seen");  // nothing is damaged any more
}

TEST_CASE("planted: a loader that does not compare hashes is found out") {
  // The disk hands out a manifest that fits whatever the files hold, which is what not comparing means.
  Pair pair(1);
  pair.disk.forge = [](const SimulatedDisk& disk, const std::string& path, const std::vector<std::uint8_t>& bytes) {
    if (!path.ends_with("step-2/manifest.json")) return bytes;
    std::vector<std::uint8_t> forged = bytes;
    try {
      auto manifest = parse_manifest(std::string(bytes.begin(), bytes.end()));
      for (auto& file : manifest.files) {
        const auto* now = disk.bytes_of("run/step-2/" + file.name);
        file.bytes = now->size();
        Hash hash;
        hash.add(std::as_bytes(std::span(*now)));
        file.hash = hash.hex();
      }
      const auto text = manifest_text(manifest);
      forged.assign(text.begin(), text.end());
    } catch (const Error&) {
      // A manifest that is damaged itself stays so.
    }
    return forged;
  };
  const auto tally = random_flips(pair, 1000, 3);
  MESSAGE(tally.wrong << " of 1000 flips load wrong values or go unseen; first: " << tally.first);
  CHECK(tally.wrong > 200);
}

TEST_CASE("the fallback takes less than a second on a real disk, and a link or a FIFO in a file's place does not hang it") {
  const ScratchFolder folder;
  CheckpointStore store(folder.path(), {.keep = 2});
  const KnownContent first(1, 7, 1), second(2, 7, scale_of_64_kib);
  store.save(first.content());
  store.save(second.content());
  const auto model = folder.path() / "step-2" / "model.safetensors";
  for (const bool fifo : {false, true}) {
    CAPTURE(fifo);
    std::filesystem::remove(model);
    if (fifo) REQUIRE(::mkfifo(model.c_str(), 0600) == 0);
    else std::filesystem::create_symlink("model.safetensors", model);
    const auto begun = std::chrono::steady_clock::now();
    const auto found = store.newest();
    CHECK(std::chrono::steady_clock::now() - begun < std::chrono::seconds(1));
    REQUIRE(found.checkpoint);
    CHECK(first.difference(*found.checkpoint) == "");
    CHECK(found.refused.at(0).why.find("model.safetensors") != std::string::npos);
  }
}
