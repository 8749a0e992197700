// Saving, loading, pruning, the best one, what is set aside. On the machine's own disk, in a temporary folder.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "checkpoint_content.hpp"
#include "framework/state/checkpoint.hpp"
#include "../support/scratch_folder.hpp"

#include <sluice/error.hpp>

namespace fs = std::filesystem;
using namespace sluice;
using sluice::testing::KnownContent;
using sluice::testing::ScratchFolder;

TEST_CASE("what was saved comes back, byte for byte") {
  // Catches a tensor, blob or state that is written under another's name or cut.
  const ScratchFolder folder;
  CheckpointStore store(folder.path() / "a" / "checkpoints", {.keep = 2});
  CHECK_FALSE(store.newest().checkpoint);
  CHECK_FALSE(store.best());
  const KnownContent known(40, 7, 50);
  const auto saved = store.save(known.content());
  CHECK(saved.folder == folder.path() / "a" / "checkpoints" / "step-40");
  CHECK(saved.trouble == "");
  std::uint64_t on_disk = 0;
  for (const auto& file : fs::directory_iterator(saved.folder))
    if (file.path().filename() != "manifest.json") on_disk += file.file_size();
  CHECK(saved.bytes == on_disk);
  const auto found = store.newest();
  REQUIRE(found.checkpoint);
  CHECK(found.refused.empty());
  CHECK(known.difference(*found.checkpoint) == "");
  CHECK_FALSE(found.checkpoint->blob("augment.other"));
}

TEST_CASE("keep newest ones stay, and the best") {
  // Catches an off-by-one in keep and a prune that forgets `best`.
  for (const std::int64_t keep : {1, 2, 3}) {
    CAPTURE(keep);
    const ScratchFolder folder;
    CheckpointStore store(folder.path(), {.keep = keep});
    for (std::int64_t step = 10; step <= 60; step += 10) store.save(KnownContent(step).content(), {.best = step == 20});
    std::vector<std::int64_t> wanted = {20};
    for (std::int64_t i = keep - 1; i >= 0; --i) wanted.push_back(60 - 10 * i);
    CHECK(store.steps() == wanted);
    REQUIRE(store.best());
    CHECK(KnownContent(20).difference(*store.best()) == "");
    CHECK(fs::exists(folder.path() / "best" / "model.safetensors"));  // a path that Python can be given
    store.mark_best(60);
    CHECK(store.best()->step() == 60);
    const auto saved = store.save(KnownContent(70).content());
    CHECK(std::find(saved.removed.begin(), saved.removed.end(), 20) != saved.removed.end());
    CHECK_THROWS_AS(store.mark_best(20), Error);
    for (const auto& entry : fs::directory_iterator(folder.path())) CHECK(entry.path().extension() != ".tmp");
  }
  CHECK_THROWS_AS(CheckpointStore("x", {.keep = 0}), Error);
}

TEST_CASE("a damaged newest one is passed over, named, and later set aside, not deleted") {
  // Catches a resume that starts afresh or overwrites the evidence.
  const ScratchFolder folder;
  CheckpointStore store(folder.path(), {.keep = 3});
  for (const std::int64_t step : {1, 2, 3}) store.save(KnownContent(step).content(), {.best = step == 3});
  std::ofstream(folder.path() / "step-3" / "state.json") << "{}";
  fs::create_directory(folder.path() / "step-7");           // a name alone is no checkpoint
  fs::create_directory(folder.path() / "step-9.tmp");
  std::ofstream(folder.path() / "step-9.tmp" / "x") << "left by a kill";
  std::ofstream(folder.path() / "step-007x") << "not ours";
  const auto found = store.newest();
  REQUIRE(found.checkpoint);
  CHECK(KnownContent(2).difference(*found.checkpoint) == "");
  REQUIRE(found.refused.size() == 2);
  CHECK(found.refused[0].path.filename() == "step-7");
  CHECK(found.refused[0].why.find("manifest.json") != std::string::npos);
  CHECK(found.refused[1].path.filename() == "step-3");
  CHECK(found.refused[1].why.find("state.json: the file has 2 bytes") != std::string::npos);

  const auto aside = store.continue_from(2);
  CHECK(aside.size() == 2);
  CHECK(fs::exists(folder.path() / "step-3.refused" / "state.json"));
  CHECK_FALSE(fs::exists(folder.path() / "step-9.tmp"));
  CHECK(fs::exists(folder.path() / "step-007x"));
  CHECK_FALSE(store.best());
  CHECK(store.steps() == std::vector<std::int64_t>{1, 2});
  store.save(KnownContent(3).content());
  CHECK(KnownContent(3).difference(*store.newest().checkpoint) == "");
  // Set aside again: what was set aside before stays.
  CHECK(store.continue_from(2) == std::vector<fs::path>{folder.path() / "step-3.refused.2"});
  CHECK(fs::exists(folder.path() / "step-3.refused" / "state.json"));
}

TEST_CASE("a step that is there is replaced whole") {
  // Catches a rename onto a folder that is not empty, which the kernel refuses.
  const ScratchFolder folder;
  CheckpointStore store(folder.path(), {.keep = 2});
  store.save(KnownContent(5, 1).content());
  store.save(KnownContent(5, 2).content());
  CHECK(KnownContent(5, 2).difference(*store.newest().checkpoint) == "");
  CHECK(store.steps() == std::vector<std::int64_t>{5});
  CHECK_FALSE(fs::exists(folder.path() / "step-5.tmp"));
}

TEST_CASE("a folder renamed to another step is refused") {
  // Catches a loader that believes the folder's name or the manifest alone.
  const ScratchFolder folder;
  CheckpointStore store(folder.path(), {.keep = 2});
  store.save(KnownContent(5).content());
  fs::rename(folder.path() / "step-5", folder.path() / "step-50");
  CHECK_FALSE(store.newest().checkpoint);
  CHECK(store.newest().refused.at(0).why.find("step 5") != std::string::npos);
}

TEST_CASE("what cannot be saved leaves nothing behind and says why") {
  const ScratchFolder folder;
  CheckpointStore store(folder.path(), {.keep = 2});
  store.save(KnownContent(1).content());
  auto content = KnownContent(2).content();
  content.model[0].shape = {4, 4};
  CHECK_THROWS_WITH_AS(store.save(content), doctest::Contains("its shape says 64"), Error);
  content = KnownContent(2).content();
  content.model[1].name = content.model[0].name;
  CHECK_THROWS_WITH_AS(store.save(content), doctest::Contains("two tensors are named"), Error);
  CHECK_FALSE(fs::exists(folder.path() / "step-2.tmp"));
  CHECK(store.steps() == std::vector<std::int64_t>{1});
}
