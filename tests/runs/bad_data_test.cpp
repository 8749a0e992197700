// Bad samples in a run: skipped and listed with their cause up to max_failures, then exit 4; and a disk that takes no more.
#include <doctest/doctest.h>

#include <csignal>

#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/runs/synthetic_run.hpp"
#include "tests/support/make_video.hpp"

using namespace sluice::testing;

namespace {

const std::string videos = R"([run]
name = "videos"
seed = 5
epochs = 2
[plugins]
path = ["@BINARY@/tests/plugins"]
[budget]
host_ram = "1GiB"
workers = 2
compute_threads = 1
[data]
plugin = "source.video_list"
path = "list.csv"
split = 0.8
duplicates = "keep"
[[stage]]
plugin = "frames.dense"
frames = 8
[[stage]]
plugin = "decode.ffmpeg"
size = [32, 32]
[batch]
size = 4
[model]
plugin = "model.recognizer"
backbone = { plugin = "backbone.r3d", depth = 10, width = 8 }
head = { plugin = "head.linear" }
[loss]
plugin = "loss.cross_entropy"
[optimizer]
plugin = "optimizer.sgd"
lr = 0.01
[[metric]]
plugin = "metric.accuracy"
)";

void put(const fs::path& file, const std::string& bytes) { std::ofstream(file, std::ios::binary) << bytes; }


// Names of files that cannot be decoded, all made in `folder`.
std::vector<std::string> make_bad_files(const fs::path& folder) {
  const std::string good = text_of_file(folder / "good0.mp4");
  put(folder / "empty.mp4", "");
  put(folder / "text.mp4", "this is no video\n");
  put(folder / "truncated.mp4", good.substr(0, good.size() / 3));
  put(folder / "zeros.mp4", std::string(20000, '\0'));
  fs::create_directory(folder / "folder.mp4");
  mkfifo((folder / "fifo.mp4").c_str(), 0644);
  make_video(folder / "audio.mp4", "sine=frequency=440:duration=1", "-c:a aac");
  return {"missing.mp4", "empty.mp4", "text.mp4", "truncated.mp4", "zeros.mp4", "folder.mp4", "fifo.mp4", "audio.mp4"};
}

std::string make_list(const fs::path& folder, const std::vector<std::string>& bad) {
  std::string list = "path,label\n";
  for (int i = 0; i < 12; ++i) list += "good" + std::to_string(i % 3) + ".mp4," + (i % 2 ? "a" : "b") + "\n";
  for (std::size_t i = 0; i < bad.size(); ++i) list += bad[i] + "," + (i % 2 ? "a" : "b") + "\n";
  put(folder / "list.csv", list);
  return list;
}

void make_good_files(const fs::path& folder) {
  make_video(folder / "good0.mp4", "testsrc2=size=64x48:rate=25:duration=1");
  make_video(folder / "good1.mp4", "mandelbrot=size=64x48:rate=25", "-t 1 -c:v libx264 -preset ultrafast -pix_fmt yuv420p");
  make_video(folder / "good2.mp4", "testsrc=size=63x47:rate=25:duration=1", "-c:v libx264 -preset ultrafast -pix_fmt yuv444p");
}

}  // namespace

// Catches: a bad file that ends the run, hangs it (the FIFO), or is left out without a word.
TEST_CASE("each bad file is listed with its cause, and the run goes on") {
  const ScratchFolder folder;
  make_good_files(folder.path());
  const auto bad = make_bad_files(folder.path());
  make_list(folder.path(), bad);
  const auto file = write_pipeline(folder.path(), videos);
  const Finished run = run_sluice({"train", file, "run.max_failures=0.9"}, folder.path());
  INFO(run.err << run.out);
  CHECK(run.code == 0);
  const std::string failures = text_of_file(folder.path() / "runs/videos/failures.jsonl");
  INFO(failures);
  for (const auto& name : bad) {
    INFO(name);
    CHECK(failures.find(name) != std::string::npos);
  }
  CHECK(failures.find("good") == std::string::npos);

  const Finished strict = run_sluice({"train", file, "run.max_failures=3", "run.dir=strict"}, folder.path());
  INFO(strict.err);
  CHECK(strict.code == 4);
  CHECK(strict.err.find("max_failures") != std::string::npos);
}

// Catches: an index of the old file that is used for the new one: wrong frames without a word, or a crash.
TEST_CASE("a file that is replaced while it is being trained on is read anew or reported, never decoded by its old index") {
  const ScratchFolder folder;
  make_good_files(folder.path());
  make_list(folder.path(), {});
  const auto file = write_pipeline(folder.path(), videos);
  SluiceProcess process({"train", file, "run.epochs=40", "run.max_failures=0.9"}, folder.path());
  while (process.look() && text_of_file(folder.path() / "runs/videos/metrics.jsonl").find("\"kind\":\"step\"") == std::string::npos)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  make_video(folder.path() / "new.mp4", "testsrc2=size=128x96:rate=25:duration=0.4");
  fs::rename(folder.path() / "new.mp4", folder.path() / "good1.mp4");
  const Finished run = process.wait(300);
  INFO(run.err << run.out);
  CHECK(run.signal == 0);
  CHECK((run.code == 0 || run.code == 4));
  const std::string failures = text_of_file(folder.path() / "runs/videos/failures.jsonl");
  INFO(failures);
  CHECK(failures.find("good1.mp4") != std::string::npos);
}

// Catches: a failed write that loses the checkpoint before it, or that is taken for success. A limit on the size of files stands for the
// full disk: both reach the program as a write that fails.
TEST_CASE("a disk that takes no more ends the run with code 5, the checkpoint before stays, and the run goes on when there is room") {
  const ScratchFolder folder;
  const auto file = write_pipeline(folder.path(), synthetic_pipeline);
  {
    SluiceProcess first({"train", file}, folder.path());
    while (first.look() && !fs::exists(folder.path() / "runs/synthetic/checkpoints/step-4")) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    first.kill(SIGKILL);
    first.wait(10);
  }
  const auto before = last_weights(folder.path() / "runs/synthetic");

  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  const rlimit small{200000, old.rlim_max};
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &small);
  const Finished full = run_sluice({"train", file, "--resume"}, folder.path());
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, old_handler);
  INFO(full.err);
  CHECK(full.code == 5);
  CHECK(full.err.find("model.safetensors") != std::string::npos);
  CHECK(last_weights(folder.path() / "runs/synthetic") == before);
  const Finished again = run_sluice({"train", file, "--resume"}, folder.path());
  INFO(again.err);
  CHECK(again.code == 0);
  CHECK(again.out.find("going on from step ") != std::string::npos);
}

// Catches: a resume that trains on other labels than the run before, an evaluation whose class numbers mean something else.
TEST_CASE("a list that was edited is not resumed, and a checkpoint is not evaluated on other classes") {
  const ScratchFolder folder;
  make_good_files(folder.path());
  const auto list = make_list(folder.path(), {});
  const auto file = write_pipeline(folder.path(), videos);
  REQUIRE(run_sluice({"train", file}, folder.path()).code == 0);
  CHECK(run_sluice({"train", file, "--resume"}, folder.path()).code == 0);
  CHECK(run_sluice({"eval", file}, folder.path()).code == 0);
  std::string swapped = list;
  for (auto& c : swapped)
    if (c == 'a' || c == 'b') c = c == 'a' ? 'b' : 'a';
  swapped.replace(0, swapped.find('\n'), "path,label");
  put(folder.path() / "list.csv", swapped);
  const Finished resumed = run_sluice({"train", file, "--resume"}, folder.path());
  CHECK(resumed.code == 2);
  CHECK(resumed.err.find("training samples") != std::string::npos);
  const Finished evaluated = run_sluice({"eval", file, "data.classes=[\"b\",\"a\"]"}, folder.path());
  CHECK(evaluated.code == 2);
  CHECK(evaluated.err.find("other classes") != std::string::npos);
}
